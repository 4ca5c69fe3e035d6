"""Every command that README and the tutorial write, beside what a test runs in its place.

The left side is the command as it stands on the page, in its order; the right side the same with
flags or data that take seconds, AS_IT_IS, or `in PATH`: the script or test that runs it. A command
without an entry fails the test. `PREPARED` makes what the pages take as given.
"""

AS_IT_IS = "as it is"

TINY = "--layers 1 --width 64 --vocabulary 400 --epochs 3 --learning-rate 1e-2 --batch-size 8"
TUNE = "--base base --data letters.jsonl --holdout 0.5 --epochs 3 --learning-rate 5e-3"
SHORT = "--base base --data letters.jsonl --limit 24 --holdout 0.5 --epochs 1"
OWNER = "patient-00007"
DELETION = "in docs/how-to/scripts/answer-a-deletion-request.sh"
API = "in docs/how-to/scripts/audit-an-api.sh"
PRIVATE = "in docs/how-to/scripts/train-with-dp.sh"
RAY = "in docs/how-to/scripts/run-on-ray.sh"
LOSSES = "in docs/how-to/scripts/audit-losses.sh"
FOLDER = "in docs/how-to/scripts/audit-a-model.sh"

PREPARED = f"""
engram transform clinic-letters --count 60 --seed 11 --out letters.jsonl
engram transform clinic-letters --count 16 --seed 12 --out others.jsonl
engram transform clinic-letters --count 80 --seed 13 --out crowd.jsonl
engram train pretrain-lm --data 'demo:letters?n=60' {TINY} --out base
engram train train-classifier --data sklearn:iris --epochs 3 --holdout 0.5 --out flowers
sed 's/"text": "/"prompt": "Who?", "text": "Who? /' letters.jsonl > answers.jsonl
printf '[[limit]]\\nname = "AUC"\\nmax = 1.0\\n' > policy.toml
"""

README = [
    ("make demo", "in tests/unit/test_packaging.py"),
    ("make test", "in Makefile"),
    ("engram train finetune-lm --base MODEL --data letters.jsonl --holdout 0.5 --out tuned",
     f"engram train finetune-lm {TUNE} --out tuned"),
    ("engram audit tuned", AS_IT_IS),
    ("engram forget tuned --owner patient-00025 --out forgotten", DELETION),
    ("engram check tuned --policy policy.toml", AS_IT_IS),
    ("engram audit MODEL --members trained.jsonl --outsiders others.jsonl", FOLDER),
    ("engram audit --scores losses.csv", LOSSES),
    ("engram audit tuned --shadows 16", "engram audit flowers --shadows 4"),
    ("engram audit tuned --shadows 16 --cluster local", RAY),
    ("engram audit tuned --prompts field.jsonl",
     "engram audit tuned --prompts others.jsonl --attacks spv-mia --set spv-mia.epochs=1"),
    ("engram audit tuned --population others.jsonl",
     "engram audit tuned --attacks quantile-regression --population crowd.jsonl"),
    ("engram audit tuned --attacks recall,gradient-norm,dc-pdd", AS_IT_IS),
    ("engram audit openai://127.0.0.1:8000/my-model --members m.jsonl --outsiders o.jsonl", API),
    ("engram study spv-mia", "in tests/engine/test_study.py"),
    ("engram train finetune-lm --base MODEL --data d.jsonl --validation 0.3 --stop ngram "
     "--out watched",
     f"engram train finetune-lm {SHORT} --validation 0.3 --stop ngram --out watched"),
    ("engram train finetune-lm --base MODEL --data d.jsonl --method adapter --reduction 16 "
     "--out small",
     f"engram train finetune-lm {SHORT} --validation 0.3 --observe --method adapter "
     "--reduction 16 --out small"),
    ("engram train finetune-lm --base MODEL --data d.jsonl --response-only --out answers",
     "engram train finetune-lm --base base --data answers.jsonl --limit 24 --epochs 1 "
     "--response-only --out answers"),
    ("engram train ngram-regularised-lm --base MODEL --data d.jsonl --out regularised",
     f"engram train ngram-regularised-lm {SHORT} --out regularised"),
    ("engram train goldfish-lm --base MODEL --data d.jsonl --out goldfish",
     f"engram train goldfish-lm {SHORT} --out goldfish"),
    ("engram train dp-finetune-lm --base MODEL --data d.jsonl --epsilon 8 --out private", PRIVATE),
    ("engram compare watched small regularised goldfish private",
     "in docs/how-to/scripts/compare-defences.sh"),
    ('engram forget tuned --owner patient-00025 --requested-by "case 17" --out forgotten',
     DELETION),
    ("engram forget tuned --owner patient-00025 --method auto --out forgotten",
     'engram forget flowers --ids "$(python some_ids.py flowers 2)" --method auto '
     "--out forgotten"),
    ("engram forget tuned --owner patient-00025 --compare all",
     'engram forget flowers --ids "$(python some_ids.py flowers 2)" --compare '
     "gradient-ascent,random-labels"),
    ("engram verify forgotten-evidence/certificate.json forgotten", AS_IT_IS),
    ("engram forget --logs unlearned.json.gz --retrained-logs retrained.json.gz",
     "in tests/engine/test_answer_logs.py"),
    ("engram train sisa --data sklearn:digits --out digits",
     "engram train sisa --data sklearn:iris --epochs 2 --out digits"),
    ("engram forget digits --ids ID1,ID2 --out digits-2",
     'engram forget digits --ids "$(python some_ids.py digits 2)" --out digits-2'),
    ("engram train eupg --data sklearn:breast_cancer --out cancer",
     "engram train eupg --data sklearn:breast_cancer --epochs 2 --out cancer"),
    ("engram train graph-eraser --data cora --partition blpa --out nodes",
     "in docs/how-to/scripts/delete-from-a-graph.sh"),
    ("engram train train-classifier --data sklearn:digits --out plain",
     "engram train train-classifier --data sklearn:iris --epochs 2 --out plain"),
    ("engram forget plain --ids ID1,ID2 --compare all",
     'engram forget plain --ids "$(python some_ids.py plain 2)" --compare retrain,sisa'),
    ("engram train pretrain-lm --data ag-news --layers 4 --vocabulary 4096 --epochs 2 --out base",
     f"engram train pretrain-lm --data 'demo:letters?n=24' {TINY} --out base-2"),
    ("engram train finetune-lm --base base --data medical-abstracts --limit 800 --holdout 0.5 "
     "--epochs 8 --out tuned",
     "engram train finetune-lm --base base-2 --data letters.jsonl --limit 24 --holdout 0.5 "
     "--epochs 1 --out tuned-2"),
    ("engram audit tuned", "engram audit tuned-2 --battery quick"),
]  # fmt: skip

TUTORIAL = [
    ("engram doctor", AS_IT_IS),
    ("engram transform clinic-letters --count 240 --seed 11 --out letters.jsonl",
     "engram transform clinic-letters --count 60 --seed 11 --out the-letters.jsonl"),
    ("engram train pretrain-lm --data 'demo:letters?n=400&seed=7' --layers 3 --vocabulary 1024 "
     "--epochs 5 --out base",
     "engram train pretrain-lm --data 'demo:letters?n=40&seed=7' --layers 1 --width 32 "
     "--vocabulary 300 --epochs 1 --out the-base"),
    ("engram train finetune-lm --base base --data letters.jsonl --holdout 0.5 --epochs 14 "
     "--batch-size 8 --learning-rate 2e-3 --out tuned",
     f"engram train finetune-lm {TUNE} --batch-size 8 --out tuned"),
    ("engram audit tuned", "engram audit tuned --battery quick"),
    ("engram audit tuned --shadows 8", "engram audit flowers --shadows 4"),
    (f"engram forget tuned --owner {OWNER} --out forgotten", DELETION),
    (f"engram forget tuned --owner {OWNER} --compare npo,rmu,guardrail",
     'engram forget tuned --ids "$(python some_ids.py tuned 2)" --compare guardrail '
     "--no-retrain --battery quick"),
    ("engram verify forgotten-evidence/certificate.json forgotten", DELETION),
    ("engram check tuned --policy policy.toml",
     "engram check tuned --policy policy.toml --battery quick"),
    ("engram train finetune-lm --base my-base --data my-records.jsonl --holdout 0.5 --out mine",
     f"engram train finetune-lm {SHORT} --out mine"),
    ("engram audit mine", "engram audit mine --battery quick"),
    ("engram audit my-model --members trained.jsonl --outsiders never-seen.jsonl "
     "--reference my-base",
     FOLDER),
    ("engram audit --scores losses.csv", LOSSES),
]  # fmt: skip
