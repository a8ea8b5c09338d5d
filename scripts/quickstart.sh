#!/usr/bin/env bash
# Sets up the environment and shows what this is for, in minutes on a CPU. On the embedded synthetic corpus, where a tenth
# of the patients have labels and all have reports, it trains `image_only`, `no_report` and `vkd`, and prints the table
# that compares them; then one X-ray is predicted from the image alone. Run again, it goes on with the runs that are there.
# Arguments go to every `vkd train`.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" "[explain]"
runs=runs/quickstart run=runs/quickstart/synthetic/vkd-0 store=stores/quickstart
studies="--data.selection.corpus.init_args.num_studies=2000"
[ -d "$store" ] || vkd prepare --config synthetic "$studies" --output "$store"  # drawn once for all
python scripts/experiment.py synthetic+methods/image_only synthetic+methods/no_report synthetic --seeds 1 --runs "$runs" \
    --data.task.label_share=0.1 "$studies" --data.loading.store="$store" --training.max_epochs=15 "$@"
vkd evaluate "$run" >"$runs/evaluation.txt"
echo
echo "One X-ray of the test split, from the image alone (its picture, and where findings are seen: $runs/xray*.png);"
python scripts/first_xray.py "$run" "$runs/xray.png"
vkd predict "$run/bundle" "$runs/xray.png" --overlay "$runs" --overlay_findings Cardiomegaly "Pleural Effusion"
echo
echo "All tables and figures of vkd: open $run/evaluation/test/index.html"
