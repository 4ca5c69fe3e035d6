"""A completions server for one model folder, to try things out.

Usage: python serve_completions.py FOLDER PORT

It echoes prompts with their log-probabilities (`echo` and `logprobs`), or writes greedily.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

NAME, PORT = sys.argv[1], int(sys.argv[2])
TOKENIZER = AutoTokenizer.from_pretrained(NAME)
MODEL = AutoModelForCausalLM.from_pretrained(NAME).eval()


def complete(prompt: str, count: int, echo: bool) -> dict:
    """One choice, as OpenAI's completions protocol has it."""
    ids = TOKENIZER(prompt, return_tensors="pt").input_ids
    with torch.inference_mode():
        logprobs = MODEL(ids).logits[0].log_softmax(-1)
        said = MODEL.generate(ids, max_new_tokens=count, do_sample=False) if count else ids
    written = TOKENIZER.decode(said[0, ids.shape[1] :])
    if not echo:
        return {"index": 0, "text": written}
    after = logprobs[:-1].gather(1, ids[0, 1:, None])[:, 0].tolist()
    told = {"tokens": [TOKENIZER.decode([i]) for i in ids[0]], "token_logprobs": [None, *after]}
    return {"index": 0, "text": prompt + written, "logprobs": told}


class Handler(BaseHTTPRequestHandler):
    """Answers /v1/models and /v1/completions."""

    def do_GET(self) -> None:
        """Which models there are."""
        self.answer({"data": [{"id": NAME}]})

    def do_POST(self) -> None:
        """A completion."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        choice = complete(asked["prompt"], asked.get("max_tokens", 16), asked.get("echo", False))
        self.answer({"model": NAME, "choices": [choice]})

    def answer(self, content: dict) -> None:
        """Send JSON."""
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


with HTTPServer(("127.0.0.1", PORT), Handler) as server:
    server.serve_forever()
