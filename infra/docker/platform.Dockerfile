# syntax=docker/dockerfile:1
# Dagster (webserver, daemon, code location), MLflow and the initialiser: one image, several commands.
ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY requirements.lock infra/docker/platform.lock ./
# uv and what builds the wheel come out of the lock too, checked by their hashes.
RUN --mount=type=cache,target=/root/.cache \
    awk '/^[a-z]/ { keep = /^uv==/ } keep' requirements.lock > uv.lock.txt \
    && python -m venv /opt/tools && /opt/tools/bin/pip install --require-hashes --requirement uv.lock.txt \
    && /opt/tools/bin/uv pip install --python /opt/tools/bin/python --constraint requirements.lock hatchling \
    && python -m venv --without-pip /opt/zebra
# Dependencies in a layer of their own: a change of the platform's code does not install them again.
RUN --mount=type=cache,target=/root/.cache \
    /opt/tools/bin/uv pip sync --python /opt/zebra/bin/python --link-mode copy --compile-bytecode --require-hashes platform.lock
COPY pyproject.toml README.md ./
COPY zebra_assets zebra_assets
COPY zebra_serving zebra_serving
RUN /opt/tools/bin/hatchling build --target wheel --directory dist \
    && /opt/tools/bin/uv pip install --python /opt/zebra/bin/python --offline --no-deps --compile-bytecode dist/*.whl

FROM ${PYTHON_IMAGE}
ARG CONTAINER_UID=1000
ENV PATH=/opt/zebra/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp \
    ZEBRA_PROJECT_DIR=/project DAGSTER_HOME=/dagster \
    DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true DAGSTER_DISABLE_TELEMETRY=1 ORT_DISABLE_TELEMETRY=1
# A volume takes its owner from the folder it is first mounted on.
RUN useradd --uid "${CONTAINER_UID}" --no-create-home --shell /usr/sbin/nologin zebra \
    && mkdir -p /dagster /project/.zebraops /project/models /project/manifests && chown -R zebra: /dagster /project
COPY --from=build /opt/zebra /opt/zebra
WORKDIR /project
USER ${CONTAINER_UID}
CMD ["mlops", "--help"]
