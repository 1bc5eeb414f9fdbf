# The image of `python -m worker`. The first two stages are those of api.Dockerfile, word for word: the engine
# builds and stores them once.

FROM python:3.11-slim AS layers
COPY pyproject.toml docker/layers.py /
RUN ["python", "/layers.py", "/pyproject.toml", "/layers"]

FROM python:3.11-slim AS dependencies
# Another build of PyTorch than the registry's own: the address of an index that holds it. Its local
# version ("+cpu", "+cu126") counts as the newer one, so it is the one that is taken.
ARG PYTORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt /layers/
COPY --from=layers /layers/torch.txt /layers/
RUN pip install ${PYTORCH_INDEX:+--extra-index-url "$PYTORCH_INDEX"} -c /layers/constraints.txt -r /layers/torch.txt
COPY --from=layers /layers/shared.txt /layers/
RUN pip install -c /layers/constraints.txt -r /layers/shared.txt
# What is written at run time: scratch, stored files, downloaded encoders, and the secrets that are made.
# A new volume takes over the owner of the folder that it is mounted on.
RUN groupadd --gid 10001 emend \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /models --shell /usr/sbin/nologin emend \
 && install -d -o emend -g emend /models /var/lib/emend /var/lib/emend/artifacts /var/lib/emend/scratch \
    /run/secrets/database /run/secrets/broker /run/secrets/store /run/secrets/grafana
WORKDIR /opt/emend
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/models \
    EMEND_DATA=/var/lib/emend/scratch EMEND_ARTIFACTS=/var/lib/emend/artifacts

FROM dependencies AS installed
COPY --from=layers /layers/worker.txt /layers/
RUN pip install -c /layers/constraints.txt -r /layers/worker.txt && pip check

# Byte code is made here because the root is read-only where it runs; without a look at the sources' times.
FROM installed AS code
COPY migrations migrations
COPY encoder encoder
COPY registry registry
COPY editing editing
COPY worker worker
RUN ["python", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "."]

FROM installed AS worker
COPY --from=code /opt/emend /opt/emend
USER 10001:10001
# Healthy means that its sweep read the database lately: it does so every second, also while a job runs.
HEALTHCHECK --interval=5s --timeout=5s --start-period=900s --retries=3 \
  CMD ["python", "-c", "import os, sys, time; age = time.time() - os.stat(os.environ['EMEND_DATA'] + '/swept').st_mtime; sys.exit(age > 60 and f'the last sweep was {age:.0f} s ago')"]
CMD ["python", "-m", "worker"]
