# syntax=docker/dockerfile:1
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1
COPY requirements/tools.txt requirements/runtime.txt requirements/
RUN python -m venv /tools && /tools/bin/pip install --quiet --require-hashes -r requirements/tools.txt \
    && python -m venv --without-pip /opt/canary-router \
    && /tools/bin/uv pip sync --quiet --python /opt/canary-router/bin/python --require-hashes requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY router router
# The build tools come from the locked set, so nothing is fetched here.
RUN /tools/bin/python -m hatchling build -t wheel -d /dist \
    && /tools/bin/uv pip install --quiet --python /opt/canary-router/bin/python --no-deps --no-index /dist/*.whl

FROM python:${PYTHON}-slim-bookworm
LABEL org.opencontainers.image.title="canary-router" \
      org.opencontainers.image.description="A canary routing proxy in front of model servers" \
      org.opencontainers.image.licenses="Apache-2.0"
# tini reaps what a killed process leaves behind, which process 1 must do.
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends tini && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/canary-router --create-home canary-router \
    && install -d -o canary-router -g canary-router /config /state
COPY --from=build /opt/canary-router /opt/canary-router
ENV PATH=/opt/canary-router/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    CANARY_ROUTER_CONFIG=/config \
    CANARY_ROUTER_STATE=/state \
    CANARY_ROUTER_ADMIN=127.0.0.1:9090
USER 10001:10001
WORKDIR /var/lib/canary-router
VOLUME /state
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["python", "-c", "import json, urllib.request as u; u.urlopen(json.load(open('/state/serving.json'))['admin'] + '/livez', timeout=2)"]
ENTRYPOINT ["tini", "--", "canary-router"]
CMD ["serve"]
