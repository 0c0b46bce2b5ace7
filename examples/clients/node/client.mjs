// Reads the text of a picture with edge-ocr's service, on Node.js 18 or newer: node client.mjs [--words] IMAGE [URL]

import { readFile, writeFile } from "node:fs/promises";
import { parse } from "node:path";

const usage = "usage: client [--words] IMAGE [URL]";
const words = process.argv.includes("--words");
const given = process.argv.slice(2).filter((argument) => argument !== "--words");
const [image, url = "http://127.0.0.1:8080/ocr", ...more] = given;
if (["-h", "--help"].some((option) => process.argv.includes(option))) {
  console.log(usage);
  process.exit();
}
if (image === undefined || more.length > 0) {
  console.error(usage);
  process.exit(1);
}

try {
  const content = (await readFile(image)).toString("base64");
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ image: content, inferenceParams: { returnWordBox: words } }),
    signal: AbortSignal.timeout(120_000),
  });
  const answer = await response.json();
  if (!response.ok) {
    throw new Error(`${answer.errorCode}: ${answer.errorMsg}`);
  }
  for (const line of answer.result.texts) {
    console.log(`${line.score.toFixed(3)}\t${line.text}`);
    for (const { score, text, poly } of line.words ?? []) {
      console.log(`\t${score.toFixed(3)}\t${text}\t${poly.join(" ")}`);
    }
  }
  const saved = `${parse(image).name}_ocr.jpg`;
  await writeFile(saved, Buffer.from(answer.result.image, "base64"));
  console.error(`saved ${saved}`);
} catch (error) {
  console.error(`Error: ${error.cause?.message ?? error.message}`);
  process.exitCode = 1;
}
