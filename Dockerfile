# rayedit in a container: target gpu is the image of configs/cluster, cpu the same without torchao.
#   docker build --target gpu --tag rayedit:0.1.0 .
#   docker build --target cpu --tag rayedit:0.1.0-cpu .
# Versions are those of requirements.lock. No weights but pocket's are inside: others are fetched at
# the first start into /home/rayedit/.cache/huggingface (a volume in configs/cluster), or mounted as a
# folder.

# What rayedit needs. No module of it is here yet, so that a change of one does not fetch torch again.
FROM python:3.11-slim AS packages
# --build-arg gives pip another index, such as the one of torch's wheels without CUDA.
ARG PIP_EXTRA_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY pyproject.toml requirements.lock README.md LICENSE ./
RUN pip install --constraint requirements.lock setuptools \
    && pip install --constraint requirements.lock --no-build-isolation '.[heic,s3]'

FROM packages AS gpu-packages
RUN pip install --constraint requirements.lock --no-build-isolation '.[torchao]'

# rayedit itself, alone in /installed.
FROM packages AS installed
COPY . .
RUN pip install --no-deps --no-build-isolation --ignore-installed --prefix /installed .

FROM python:3.11-slim AS runtime
# KubeRay's probes call wget. Debian keeps one version of it at a time.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home rayedit
WORKDIR /app
COPY configs configs
ENV PYTHONUNBUFFERED=1
EXPOSE 8000
# By number, for Kubernetes' runAsNonRoot.
USER 1000
ENTRYPOINT ["rayedit"]
CMD ["--help"]

FROM runtime AS cpu
COPY --from=packages /usr/local /usr/local
COPY --from=installed /installed /usr/local

FROM runtime AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=gpu-packages /usr/local /usr/local
COPY --from=installed /installed /usr/local
