"""The image's health check: this container's `/readyz`, at the port and with the TLS that its settings say."""

import os
import ssl
import sys
import urllib.request

PORT = os.environ.get("PENSTOCK_HTTP__PORT") or "8080"
SECURE = bool(os.environ.get("PENSTOCK_HTTP__TLS_CERT"))
TIMEOUT_S = 8.0

if __name__ == "__main__":
    # Itself, on its own loopback: there is nobody whose certificate would have to be checked.
    trust = ssl._create_unverified_context() if SECURE else None
    url = f"{'https' if SECURE else 'http'}://127.0.0.1:{PORT}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=trust) as reply:
            sys.stdout.write(reply.read().decode())
    except urllib.error.HTTPError as error:
        sys.exit(error.read().decode())  # 503 says which part is not ready; `docker inspect` shows it
    except OSError as error:
        sys.exit(f"{url}: {error}")
