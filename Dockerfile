# syntax=docker/dockerfile:1
# With CUDA:           docker build --tag pixelsmith .
# Small, for the CPU:  docker build --tag pixelsmith:cpu --build-arg TORCH_INDEX=URL .
ARG PYTHON=3.12

FROM node:22-slim AS page
WORKDIR /source
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
RUN pip install --no-cache-dir build==1.6.1
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
COPY --from=page /source/node_modules/openseadragon/LICENSE.txt src/pixelsmith/viewer/page/openseadragon-license.txt
COPY --from=page /source/node_modules/openseadragon/build/openseadragon/openseadragon.min.js src/pixelsmith/viewer/page/
RUN python -m build --wheel

FROM python:${PYTHON}-slim
# PyTorch's usual builds for Linux bring the libraries of CUDA, some gigabytes; its page names an index of those for the
# CPU alone.
ARG TORCH_INDEX=
COPY constraints.txt /tmp/constraints.txt
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} torch
RUN --mount=type=bind,from=wheel,source=/source/dist,target=/dist \
    pip install --no-cache-dir --constraint /tmp/constraints.txt /dist/*.whl
# Models and facts are kept in /cache, which any user may write to, so that the pictures can belong to who runs it.
ENV HOME=/cache HF_HOME=/cache/huggingface XDG_CACHE_HOME=/cache
RUN useradd --uid 1000 --home-dir /cache --create-home artist && chmod 1777 /cache
VOLUME /cache
WORKDIR /pictures
USER 1000
EXPOSE 8000
ENTRYPOINT ["pixelsmith"]
