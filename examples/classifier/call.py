"""Answer the rows of a file by an exported classifier; transformers is all that this needs.

python examples/classifier/call.py FOLDER FILE
"""

import json
import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

folder, file = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
answers = []
for line in Path(file).read_text(encoding="utf-8").splitlines():
    chat = [{"role": "user", "content": json.loads(line)["prompt"]}]
    inputs = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    ids = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0]
    answers.append(tokenizer.decode(ids[inputs["input_ids"].shape[1] :], skip_special_tokens=True))
print(json.dumps(answers))
