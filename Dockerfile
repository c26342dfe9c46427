# An engine over HTTP, for CPUs. Build it where the wheels of constraints.txt can be had:
#   docker build -t genrail .
#   docker run --rm -v "$PWD:/data" genrail keys create /data/keys.json shop
#   docker run --rm -p 127.0.0.1:8000:8000 --read-only --tmpfs /tmp -v "$PWD:/data" genrail \
#       serve /data/shop.genrail --host 0.0.0.0 --keys /data/keys.json
FROM python:3.11-slim AS build
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
# Give the index of the CPU builds of torch, an eighth of the size: --build-arg TORCH_INDEX=...; see README.
ARG TORCH_INDEX
RUN python -m venv /opt/genrail \
    && /opt/genrail/bin/pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' constraints.txt)" \
    && /opt/genrail/bin/pip install --no-cache-dir -c constraints.txt '.[torch,offline,serve]'

FROM python:3.11-slim
COPY --from=build /opt/genrail /opt/genrail
ENV PATH=/opt/genrail/bin:$PATH HF_HUB_OFFLINE=1 NUMBA_CACHE_DIR=/tmp/numba OMP_NUM_THREADS=1
RUN useradd --uid 1000 --create-home genrail
USER genrail
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["genrail"]
CMD ["serve", "/data/shop.genrail", "--host", "127.0.0.1"]
