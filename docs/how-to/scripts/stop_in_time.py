"""Fine-tune with transformers' Trainer, and stop before the model begins to copy."""

from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

from engram.integrations import MemorisationCallback

tokenizer = AutoTokenizer.from_pretrained("base")
model = AutoModelForCausalLM.from_pretrained("base")
records = load_dataset("json", data_files={"train": "trained.jsonl", "test": "held-out.jsonl"})
tokens = records["train"].map(
    lambda row: {"input_ids": tokenizer(row["text"], truncation=True)["input_ids"]},
    remove_columns=records["train"].column_names,
)

trainer = Trainer(
    model,
    TrainingArguments(
        "trainer",
        num_train_epochs=20,
        per_device_train_batch_size=8,
        learning_rate=2e-2,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    ),
    train_dataset=tokens,
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    processing_class=tokenizer,
)
trainer.add_callback(
    MemorisationCallback(
        records["train"], validation=records["test"], stop="perplexity", patience=2
    )
)
trainer.train()
trainer.save_model("stopped")
