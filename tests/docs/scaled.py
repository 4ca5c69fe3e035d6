"""Every command that README and the tutorial write, beside what a test runs in its place.

The left side is the command as it stands on the page, in its order; the right side the same with
flags or data that take seconds. A command that is left as it is says AS_IT_IS; one whose left
side has no entry fails the test. `PREPARED` makes what the pages take as given.
"""

AS_IT_IS = "as it is"
ELSEWHERE = "elsewhere"
"""Run by another test: `make` itself, the demo, or a how-to's script."""

TINY = "--layers 1 --width 64 --vocabulary 400 --epochs 4 --learning-rate 1e-2 --batch-size 8"
TUNE = "--base base --data letters.jsonl --holdout 0.5 --epochs 4 --learning-rate 5e-3"
SHORT = f"{TUNE} --epochs 1 --limit 40"

PREPARED = f"""
engram transform clinic-letters --count 60 --seed 11 --out letters.jsonl
engram train pretrain-lm --data 'demo:letters?n=60' {TINY} --out base
engram transform clinic-letters --count 30 --seed 12 --out others.jsonl
engram train train-classifier --data sklearn:iris --epochs 3 --holdout 0.5 --out flowers
python some_ids.py flowers 2 > ids
printf '[[limit]]\\nname = "AUC"\\nmax = 1.0\\n' > policy.toml
"""

README = [
    ("make demo", ELSEWHERE),
    ("make test", ELSEWHERE),
    ("engram train finetune-lm --base MODEL --data letters.jsonl --holdout 0.5 --out tuned",
     f"engram train finetune-lm {TUNE} --out tuned"),
    ("engram audit tuned", AS_IT_IS),
    ("engram forget tuned --owner patient-00025 --out forgotten", ELSEWHERE),
    ("engram check tuned --policy policy.toml", AS_IT_IS),
    ("engram audit tuned --shadows 16", "engram audit flowers --shadows 2"),
    ("engram audit tuned --shadows 16 --cluster local", ELSEWHERE),
    ("engram audit tuned --prompts field.jsonl",
     "engram audit tuned --prompts others.jsonl --attacks spv-mia --set spv-mia.epochs=1"),
    ("engram audit tuned --population others.jsonl",
     "engram audit tuned --battery quick --population others.jsonl"),
    ("engram audit tuned --attacks recall,gradient-norm,dc-pdd", AS_IT_IS),
    ("engram audit openai://127.0.0.1:8000/my-model --members m.jsonl --outsiders o.jsonl",
     ELSEWHERE),
    ("engram study spv-mia", ELSEWHERE),
    ("engram train finetune-lm --base MODEL --data d.jsonl --validation 0.3 --stop ngram "
     "--out watched",
     f"engram train finetune-lm {SHORT} --validation 0.3 --stop ngram --out watched"),
    ("engram train finetune-lm --base MODEL --data d.jsonl --method adapter --reduction 16 "
     "--out small",
     f"engram train finetune-lm {SHORT} --validation 0.3 --method adapter --reduction 16 "
     "--out small"),
    ("engram train finetune-lm --base MODEL --data d.jsonl --response-only --out answers",
     "engram train finetune-lm --base base --data answers.jsonl --epochs 1 --response-only "
     "--out answers"),
    ("engram train ngram-regularised-lm --base MODEL --data d.jsonl --out regularised",
     f"engram train ngram-regularised-lm {SHORT} --out regularised"),
    ("engram train goldfish-lm --base MODEL --data d.jsonl --out goldfish",
     f"engram train goldfish-lm {SHORT} --out goldfish"),
    ("engram train dp-finetune-lm --base MODEL --data d.jsonl --epsilon 8 --out private",
     ELSEWHERE),
    ("engram compare watched small regularised goldfish private", "engram compare watched small"),
    ('engram forget tuned --owner patient-00025 --requested-by "case 17" --out forgotten',
     ELSEWHERE),
    ("engram forget tuned --owner patient-00025 --method auto --out forgotten",
     'engram forget flowers --ids "$(cat ids)" --method auto --out forgotten'),
    ("engram forget tuned --owner patient-00025 --compare all",
     'engram forget flowers --ids "$(cat ids)" --compare gradient-ascent,random-labels'),
    ("engram verify forgotten-evidence/certificate.json forgotten", AS_IT_IS),
    ("engram forget --logs unlearned.json.gz --retrained-logs retrained.json.gz", ELSEWHERE),
    ("engram train sisa --data sklearn:digits --out digits",
     "engram train sisa --data sklearn:iris --epochs 2 --out digits"),
    ("engram forget digits --ids ID1,ID2 --out digits-2",
     'engram forget digits --ids "$(python some_ids.py digits 2)" --out digits-2'),
    ("engram train eupg --data sklearn:breast_cancer --out cancer",
     "engram train eupg --data sklearn:breast_cancer --epochs 2 --out cancer"),
    ("engram train graph-eraser --data cora --partition blpa --out nodes",
     "engram train graph-eraser --data 'demo:graph?n=300&communities=8&classes=3' "
     "--partition blpa --shards 3 --epochs 2 --out nodes"),
    ("engram train train-classifier --data sklearn:digits --out plain",
     "engram train train-classifier --data sklearn:iris --epochs 2 --out plain"),
    ("engram forget plain --ids ID1,ID2 --compare all",
     'engram forget plain --ids "$(python some_ids.py plain 2)" --compare retrain,sisa'),
    ("engram train pretrain-lm --data ag-news --layers 4 --vocabulary 4096 --epochs 2 --out base",
     f"engram train pretrain-lm --data 'demo:letters?n=40' {TINY} --out base-2"),
    ("engram train finetune-lm --base base --data medical-abstracts --limit 800 --holdout 0.5 "
     "--epochs 8 --out tuned",
     "engram train finetune-lm --base base-2 --data letters.jsonl --limit 40 --holdout 0.5 "
     "--epochs 1 --out tuned-2"),
    ("engram audit tuned", "engram audit tuned-2 --battery quick"),
]  # fmt: skip
