# hf-up in a container, on a CPU or, by the build argument, on an NVIDIA GPU:
#   docker build -t hf-up .
#   docker build -t hf-up-cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#   docker run --rm -v "$PWD/out:/work/out" hf-up pretrain --config quickstart
#   docker run --rm --gpus all -v "$PWD/out:/work/out" hf-up-cuda pretrain --config gpt2
# Untried, both of them: no Docker engine was at hand.
FROM python:3.11-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY . /source
RUN pip install --no-cache-dir torch -c /source/constraints.txt --index-url "$TORCH_INDEX" \
    && pip install --no-cache-dir /source -c /source/constraints.txt \
    && rm -r /source
WORKDIR /work
ENTRYPOINT ["hf-up"]
CMD ["-h"]
