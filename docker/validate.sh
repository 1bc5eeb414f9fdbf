#!/bin/sh
# docker-compose.yml with each of its profiles and with all, as Compose itself reads it. No engine is needed.
set -eu
cd "$(dirname "$0")/.."
if ! docker compose version >/dev/null 2>&1; then
  echo "docker compose config: left out, there is no Docker Compose (version 2) here"
  exit 0
fi
docker compose config --quiet
for profile in $(docker compose config --profiles) '*'; do
  docker compose --profile "$profile" config --quiet
done
