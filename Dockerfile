# docker build -t e2b-upload .
# docker run --rm --read-only --user "$(id -u):$(id -g)" -v "$PWD:/work:ro" -e E2B_UPLOAD_URL e2b-upload build /work
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS builder
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY docs/e2b-upload.1 docs/
COPY e2b_upload e2b_upload/
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .
# Without a pip of its own: nothing is installed where it runs. What is installed is the wheel.
# hadolint ignore=DL3013
RUN python -m venv --without-pip /opt/e2b-upload \
    && set -- /wheels/*.whl \
    && pip --python /opt/e2b-upload install --no-cache-dir --compile "${1}[e2b]"

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="e2b-upload" \
      org.opencontainers.image.description="Packs a build context by .dockerignore and PUTs it to a presigned URL" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=builder /opt/e2b-upload /opt/e2b-upload
# The archive waits here: a volume is on a disk also where the rest is read-only, and whoever the
# container runs as may write to it.
RUN useradd --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin e2b-upload \
    && install -d -m 1777 /spool
VOLUME /spool
ENV PATH=/opt/e2b-upload/bin:$PATH \
    TMPDIR=/spool
USER 10001:10001
WORKDIR /work
ENTRYPOINT ["e2b-upload"]
