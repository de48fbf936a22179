"""From a request and a model to what is done: sizes of the stages, patches, memory and time. Nothing is run."""
