"""A page that says which Python serves it."""

import os
import platform
import signal
import sys

import bottle

app = bottle.Bottle()


@app.get("/")
def index():
    bottle.response.content_type = "text/plain; charset=utf-8"
    return f"Hello from Python {platform.python_version()}\n"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = int(os.environ.get("PORT", "8080"))
    print(f"listening on {port}", flush=True)
    bottle.run(app, host="0.0.0.0", port=port, quiet=True)
