"""Reads the text of a picture with edge-ocr's service: python client.py IMAGE [URL]"""

import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

USAGE = "usage: client IMAGE [URL]"
if {"-h", "--help"} & set(sys.argv):
    print(USAGE)
    sys.exit()
if not 2 <= len(sys.argv) <= 3:
    sys.exit(USAGE)
image = Path(sys.argv[1])
url = sys.argv[2] if len(sys.argv) == 3 else "http://127.0.0.1:8080/ocr"

try:
    content = base64.b64encode(image.read_bytes()).decode()
    request = urllib.request.Request(url, json.dumps({"image": content}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        result = json.load(answer)["result"]
except urllib.error.HTTPError as error:
    sys.exit(f"Error: {error.code}: {json.load(error)['errorMsg']}")
except OSError as error:
    sys.exit(f"Error: {error}")

for line in result["texts"]:
    print(f"{line['score']:.3f}\t{line['text']}")
saved = Path(f"{image.stem}_ocr.jpg")
saved.write_bytes(base64.b64decode(result["image"]))
print(f"saved {saved}", file=sys.stderr)
