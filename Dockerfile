# One image, all commands. Ordinary on purpose: `docker build .` needs nothing but the base image and a package index.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /build
# Into a directory of its own, which the last stage copies whole. It has no pip: the one of the base image works on it.
RUN python -m venv --without-pip /opt/ringlog
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1 PIP_CACHE_DIR=/var/cache/pip
COPY pyproject.toml requirements.lock image/locked.py ./
# Compiled now: on a read-only root nobody could keep what Python compiles at the start.
RUN --mount=type=cache,target=/var/cache/pip \
    python locked.py > image.lock && python locked.py hatchling > build.lock && \
    pip --python /opt/ringlog/bin/python install --require-hashes --only-binary :all: --compile -r image.lock && \
    pip install --require-hashes --only-binary :all: -r build.lock
COPY README.md LICENSE ./
COPY schemas schemas
COPY state state
COPY runtime runtime
COPY service service
COPY consumers consumers
COPY cli cli
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . && \
    pip --python /opt/ringlog/bin/python install --no-deps --compile dist/*.whl

FROM python:${PYTHON}-slim
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ringlog" \
      org.opencontainers.image.description="Event-sourced webhooks for voice agents: Millis AI calls in, Kafka in the middle, an answer and exact books out." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# What runs here installs nothing. The folder is made here so that a fresh volume over it belongs to the user.
RUN python -m pip uninstall --yes --quiet --root-user-action=ignore pip && install -d -o 10001 -g 10001 /data
COPY --from=build /opt/ringlog /opt/ringlog
ENV PATH=/opt/ringlog/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 RINGLOG_DATA_DIR=/data
# By number, so that `runAsNonRoot` can be judged without looking into the image.
USER 10001:10001
VOLUME /data
EXPOSE 8080 9090
# Of every process that serves; where one wants its own, as a Job does, the one who runs it says so.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + (os.environ.get('RINGLOG_OPS_PORT') or '9090') + '/health/live', timeout=2)"]
ENTRYPOINT ["ringlog"]
CMD ["serve"]
