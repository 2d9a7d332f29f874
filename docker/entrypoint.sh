#!/bin/sh
# Start bindchat. A server that the network reaches needs a key: the mounted secret, else one made at the first start,
# shown in the log and kept in /data. `BINDCHAT_ALLOW_UNAUTHENTICATED=true` runs without, on the operator's word.
set -eu

if [ "${1:-serve}" = serve ]; then
  keys=/data/keys
  if [ -s /run/secrets/api_keys ]; then
    export BINDCHAT_API_KEY_FILE=/run/secrets/api_keys
  elif [ -z "${BINDCHAT_API_KEYS:-}${BINDCHAT_ADMIN_KEYS:-}${BINDCHAT_API_KEY_FILE:-}" ] \
      && [ "${BINDCHAT_ALLOW_UNAUTHENTICATED:-false}" != true ]; then
    if [ ! -s "$keys" ]; then
      umask 077
      python -m server.cli keys add first --admin --file "$keys" 2>/dev/null > /data/first_key
      echo "made an API key, kept in /data/first_key: $(cat /data/first_key)"
    fi
    export BINDCHAT_API_KEY_FILE=$keys
  fi
fi
exec python -m server.cli "$@"
