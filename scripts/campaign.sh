#!/usr/bin/env bash
# Runs one long campaign in full; scripts/test.sh runs a short form of each. Prints the seed and the command, so that a
# failure can be repeated.
#
#   scripts/campaign.sh               lists the campaigns
#   scripts/campaign.sh NAME [SEED]   runs one; without SEED a fresh one is drawn
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# A campaign is a function campaign_<name>, which is called with the seed, and its line in describe(). It starts its work
# with `run`, which prints the command.
describe() {
  case "$1" in
    kills) say "kills random ranks at random moments, 100 times (or KILLS=n times): nothing may be lost" ;;
    exports) say "exports every placement, dense, with experts, with latent attention and as DeepSeek, and loads it in transformers (the seed is not used)" ;;
    placements) say "trains each of the nine placements for 200 steps with experts, with latent attention and with both (on the quickstart's tokens)" ;;
    scores) say "scores 15 downstream tasks with a dense model and one with experts, and compares every request with transformers (on the quickstart's tokens)" ;;
    sanitize) say "builds everything with AddressSanitizer and UndefinedBehaviorSanitizer and runs all tests (the seed is not used)" ;;
    tidy) say "runs clang-format and clang-tidy over the whole tree (the seed is not used)" ;;
  esac
}

run() {
  say "command: $*"
  "$@"
}

campaign_tidy() {
  if [ ! -e build/compile_commands.json ]; then scripts/build.sh || return; fi
  run scripts/lint.sh --all
}

# Without leaks: LibTorch keeps what it allocates once. Without container overflows: its code, which is not instrumented,
# fills vectors that ours read.
campaign_sanitize() {
  scripts/build.sh --sanitize all || return
  run env OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE ASAN_OPTIONS=detect_leaks=0:detect_container_overflow=0 \
    ctest --test-dir build-sanitize --output-on-failure -E 'lint_|sanitizers' -j "$(cores)"
}

campaign_kills() {
  if [ ! -x build/ranks_failure_test ]; then scripts/build.sh || return; fi
  run env OMP_WAIT_POLICY=PASSIVE NORMA_SEED="$1" NORMA_KILLS="${KILLS:-100}" build/ranks_failure_test \
    --gtest_filter=RankFailures.RandomKillsLoseNothing
}

campaign_exports() {
  if [ ! -x build/hf_program_test ]; then scripts/build.sh || return; fi
  [ -d .cache/transformers ] || fail "campaign.sh: transformers is not installed: run scripts/setup.sh" 2
  run env OMP_NUM_THREADS=1 NORMA_EXPORTS=all build/hf_program_test --gtest_filter=HfProgram.TransformersComputesWhatNormaDoes
}

# The question is whether every loss and gradient stays finite, so the batch is small and it takes minutes.
campaign_placements() {
  local tokens="${TOKENS:-runs/quickstart/tokens}" folder config preset extra
  [ -d "$tokens" ] || fail "campaign.sh: no tokens in $tokens: run scripts/quickstart.sh first, or set TOKENS" 3
  [ -x build/norma ] || scripts/build.sh norma || return
  folder=$(mktemp -d)
  for config in moe-tiny mla-tiny mla-moe-tiny; do
    for preset in pre post qk qkv hybrid hybrid_star mix deep span; do
      extra=""
      if [ "$preset" = mix ]; then extra="norm.post_layers=1"; fi
      run build/norma train "configs/$config.yaml" "norm.preset=$preset" $extra "data.paths=[$tokens/train-*.npy]" \
        "run.folder=$folder/$config-$preset" "run.seed=$1" train.max_duration=200 train.global_batch_size=2 \
        model.sequence_length=128 schedule.warmup=40 metrics.tensorboard=false checkpoint.background=false \
        >"$folder/log" 2>&1 || { tail -n 20 "$folder/log"; rm -rf "$folder"; return 1; }
      say "$config $preset: $(grep -o '"\(final_loss\|tokens_per_second\)": *[0-9.]*' "$folder/$config-$preset/summary.json" | tr '\n' ' ')"
      rm -rf "${folder:?}/$config-$preset"
    done
  done
  rm -rf "$folder"
}

# The models are trained a little, because one that gives every token the same probability would hide much.
campaign_scores() {
  local tokens="${TOKENS:-runs/quickstart/tokens}" folder config tasks
  tasks=hellaswag,piqa,arc_easy,arc_challenge,commonsense_qa,openbook_qa,boolq,sciq,winogrande,hellaswag_rc_5shot
  tasks=$tasks,arc_easy_rc_5shot_bpb,copycolors_10way_fast,gsm8k_gold_bpb_5shot,lambada_bpb_0shot,naturalqs_bpb_5shot
  [ -e "$tokens/tokenizer.json" ] || fail "campaign.sh: no tokens in $tokens: run scripts/quickstart.sh first, or set TOKENS" 3
  [ -d .cache/transformers ] || fail "campaign.sh: transformers is not installed: run scripts/setup.sh" 2
  [ -x build/norma ] || scripts/build.sh norma || return
  folder=$(mktemp -d)
  for config in tiny moe-tiny; do
    run build/norma train "configs/$config.yaml" "data.paths=[$tokens/train-*.npy]" "data.tokenizer=$tokens/tokenizer.json" \
      "run.folder=$folder/$config" "run.seed=$1" train.max_duration=40 schedule.warmup=10 metrics.tensorboard=false \
      >"$folder/log" 2>&1 &&
      run build/norma export "$folder/$config" --to hf --out "$folder/$config-hf" >"$folder/log" 2>&1 &&
      run build/norma eval "$folder/$config" --tasks "$tasks" --documents 20 --reuse-context \
        --predictions "$folder/$config.jsonl" >"$folder/log" 2>&1 ||
      { tail -n 20 "$folder/log"; rm -rf "$folder"; return 1; }
    run .venv/bin/python scripts/check_scores.py "$folder/$config-hf" "$folder/$config.jsonl" --documents 20 ||
      { rm -rf "$folder"; return 1; }
  done
  rm -rf "$folder"
}

campaign_names() { declare -F | sed -n 's/^declare -f campaign_\(.*\)$/\1/p' | grep -vx names; }

if [ $# -eq 0 ]; then
  say "campaigns:"
  for name in $(campaign_names); do printf '  %-10s %s\n' "$name" "$(describe "$name")"; done
  exit 0
fi
name="$1"
seed="${2:-$((RANDOM * 32768 + RANDOM))}"
[ $# -le 2 ] || fail "campaign.sh: at most a name and a seed; got $*" 2
campaign_names | grep -qx -- "$name" ||
  fail "campaign.sh: unknown campaign '$name'; allowed: $(campaign_names | tr '\n' ' ')" 2
case "$seed" in '' | *[!0-9]*) fail "campaign.sh: the seed must be a number; got '$seed'" 2 ;; esac

say "campaign $name, seed $seed (again: scripts/campaign.sh $name $seed)"
status=0
"campaign_$name" "$seed" || status=$?
outcome=passed
if [ "$status" != 0 ]; then outcome="failed with exit code $status"; fi
say "campaign $name: $outcome in $(duration "$SECONDS")"
exit "$status"
