# The HTTP service: docker build -t edge-ocr . && docker run --rm -p 8080:8080 -v edge-ocr-models:/models edge-ocr
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/edge-ocr
COPY pyproject.toml README.md LICENSE ./
COPY edge_ocr edge_ocr
COPY converters converters
COPY configs configs
COPY examples/images examples/images
COPY android_demo android_demo
RUN /opt/edge-ocr/bin/pip install --no-cache-dir ".[pdf,onnx,fonts]"

FROM python:3.12-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 ocr \
    && install -d -o ocr -g ocr /models
COPY --from=build /opt/edge-ocr /opt/edge-ocr
ENV PATH=/opt/edge-ocr/bin:$PATH EDGE_OCR_HOME=/models
# Models that are fetched on first use and compiled networks; the default models are in the image.
VOLUME /models
USER ocr
WORKDIR /home/ocr
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client; c = http.client.HTTPConnection('127.0.0.1', 8080, timeout=4); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["edge-ocr"]
CMD ["serve", "--host", "0.0.0.0"]
