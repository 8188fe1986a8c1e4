# One image for every role. The builder makes a virtual environment from the hash-pinned lock; the image copies it.
FROM python:3.11-slim AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/penstock
WORKDIR /src
COPY requirements/build.txt requirements/run.txt requirements/
RUN /opt/build/bin/pip install --require-hashes -r requirements/build.txt \
 && /opt/build/bin/pip --python /opt/penstock/bin/python install --require-hashes -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY core core
COPY ingest-gateway ingest-gateway
COPY processor processor
COPY publish-gateway publish-gateway
COPY data-service data-service
COPY app app
RUN /opt/build/bin/python -m hatchling build -t wheel -d /tmp/wheel \
 && /opt/build/bin/pip --python /opt/penstock/bin/python install --no-deps /tmp/wheel/*.whl \
 && /opt/penstock/bin/python -m compileall -q /opt/penstock/lib

FROM python:3.11-slim
RUN mkdir /data && chown 10001:10001 /data
COPY --from=builder /opt/penstock /opt/penstock
COPY examples /opt/examples
ENV PATH=/opt/penstock/bin:$PATH PYTHONUNBUFFERED=1 PENSTOCK_DATA=/data PENSTOCK_HTTP__PORT=8080
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s \
  CMD python3 -c "import urllib.request as web; web.urlopen('http://127.0.0.1:$PENSTOCK_HTTP__PORT/readyz', timeout=2)"
ENTRYPOINT ["penstock"]
CMD ["up", "--host", "0.0.0.0", "--insecure-http"]
