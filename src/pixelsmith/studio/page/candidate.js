// Whether the picture that would grow now is the chosen candidate: a base follows from more than its seed.

const outlines = (regions) => JSON.stringify(regions.map(({ prompt, box, polygon }) => [prompt, box ?? null, polygon ?? null]));

// What differs from the job that made the candidate, in words; "" where nothing does. `look` is the candidate's picture,
// `values` are those of the form, and `plan` is what they would take.
export function otherThan(job, look, values, plan) {
  if (job?.kind !== "candidates" || !plan?.base) return "";
  const { form } = job;
  const [width, height] = plan.base.size;
  const differs = {
    shape: look.width !== width || look.height !== height,
    quality: form.preset !== values.preset,
    prompt: form.prompt.trim() !== values.prompt || form.negative_prompt.trim() !== values.negative_prompt,
    model: form.model !== values.model,
    seed: look.key !== `${job.id.split("/")[1]}:${values.seed}`,
    regions: outlines(form.regions) !== outlines(values.regions),
  };
  const name = Object.keys(differs).find((one) => differs[one]);
  if (!name) return "";
  const advice = name === "seed" ? "Choose this one again." : "Show four again.";
  return `${name === "regions" ? "Other regions" : `Another ${name}`}: another picture will grow. ${advice}`;
}
