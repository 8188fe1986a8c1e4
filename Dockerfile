# One image for every role: `up` is all of them, `run --role ...` is one. The builder makes a virtual environment from
# the hash-pinned lock (PostgreSQL, Kafka and tracing included) and takes out what only developers need.
FROM python:3.11-slim AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PYTHONDONTWRITEBYTECODE=1
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends binutils >/dev/null \
 && python3 -m venv /opt/build && python3 -m venv --without-pip /opt/penstock
WORKDIR /src
COPY requirements/build.txt requirements/run.txt requirements/
RUN /opt/build/bin/pip install --require-hashes -r requirements/build.txt \
 && /opt/build/bin/pip --python /opt/penstock/bin/python install --require-hashes -r requirements/run.txt
COPY image/slim.sh image/
RUN image/slim.sh /opt/penstock
COPY pyproject.toml README.md LICENSE ./
COPY core core
COPY ingest-gateway ingest-gateway
COPY processor processor
COPY publish-gateway publish-gateway
COPY data-service data-service
COPY app app
# Compiled here, once: the root file system of a running container is read-only.
RUN /opt/build/bin/python -m hatchling build -t wheel -d /tmp/wheel \
 && /opt/build/bin/pip --python /opt/penstock/bin/python install --no-deps /tmp/wheel/*.whl \
 && /opt/penstock/bin/python -m compileall -q /opt/penstock/lib

FROM python:3.11-slim
# Folders that a volume takes its owner from: data, the archive of raw events, secrets that are made at the first start.
RUN mkdir /data /archive /run/penstock && chown 10001:10001 /data /archive /run/penstock
COPY --from=builder /opt/penstock /opt/penstock
COPY image/make_secrets.py image/probe.py /opt/penstock/image/
COPY examples /opt/examples
ENV PATH=/opt/penstock/bin:$PATH PYTHONUNBUFFERED=1 PENSTOCK_DATA=/data PENSTOCK_HTTP__PORT=8080
USER 10001:10001
WORKDIR /data
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=10s --start-period=180s CMD ["python3", "/opt/penstock/image/probe.py"]
ENTRYPOINT ["penstock"]
CMD ["up", "--host", "0.0.0.0", "--insecure-http"]
