"""Reads the text of a picture with edge-ocr's service: python client.py [--words] IMAGE [URL]"""

import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

USAGE = "usage: client [--words] IMAGE [URL]"
if {"-h", "--help"} & set(sys.argv):
    print(USAGE)
    sys.exit()
words = "--words" in sys.argv
given = [argument for argument in sys.argv[1:] if argument != "--words"]
if not 1 <= len(given) <= 2:
    sys.exit(USAGE)
image = Path(given[0])
url = given[1] if len(given) == 2 else "http://127.0.0.1:8080/ocr"

try:
    content = base64.b64encode(image.read_bytes()).decode()
    body = {"image": content, "inferenceParams": {"returnWordBox": words}}
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        result = json.load(answer)["result"]
except urllib.error.HTTPError as error:
    sys.exit(f"Error: {error.code}: {json.load(error)['errorMsg']}")
except OSError as error:
    sys.exit(f"Error: {error}")

for line in result["texts"]:
    print(f"{line['score']:.3f}\t{line['text']}")
    for word in line.get("words", []):
        corners = " ".join(f"{x},{y}" for x, y in word["poly"])
        print(f"\t{word['score']:.3f}\t{word['text']}\t{corners}")
saved = Path(f"{image.stem}_ocr.jpg")
saved.write_bytes(base64.b64decode(result["image"]))
print(f"saved {saved}", file=sys.stderr)
