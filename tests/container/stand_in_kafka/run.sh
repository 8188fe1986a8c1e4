#!/bin/bash
# Every variable KAFKA_ABC_DEF becomes the property abc.def; then the storage is formatted, if it is not, and served.
set -euo pipefail
properties=/opt/kafka/config/server.properties
env | grep '^KAFKA_' | grep -v '^KAFKA_HEAP_OPTS=' | while IFS='=' read -r name value; do
  echo "$(tr '[:upper:]_' '[:lower:].' <<<"${name#KAFKA_}")=$value"
done >"$properties"
# shellcheck disable=SC2086 # several options in one variable, as in the real image
run=(java ${KAFKA_HEAP_OPTS:-} -XX:+UseSerialGC -Dlog4j2.configurationFile=/opt/kafka/log4j2.xml -cp '/opt/kafka/libs/*')
"${run[@]}" kafka.tools.StorageTool format --ignore-formatted -t "$CLUSTER_ID" -c "$properties"
exec "${run[@]}" kafka.Kafka "$properties"
