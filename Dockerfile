# syntax=docker/dockerfile:1
# For the CPU:         docker build --tag pixelsmith .
# For an NVIDIA GPU:   docker build --tag pixelsmith:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .
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
# PyTorch's builds for Linux on PyPI bring the libraries of CUDA, some gigabytes; this index has those for the CPU.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt /tmp/constraints.txt
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt --index-url "${TORCH_INDEX}" torch
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
