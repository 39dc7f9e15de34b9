"""What each word on the page means, and which direction each number has."""

from __future__ import annotations

DEFINITIONS: dict[str, dict[str, str]] = {
    "Models": {
        "base, distilled, zero-RL": "Three checkpoints of one architecture and one tokenizer: before, after training "
        "on a teacher's traces, and after reinforcement learning on a verifiable reward with no traces.",
        "control": "A fine-tune of the same number of steps on plain traces. It separates “was trained” from “was "
        "distilled”.",
        "weights moved, activations moved": "Relative distance from the base, of all weights together, and of the "
        "residuals that the crosscoder reads, averaged over tokens. 0 is unchanged. The size of an update confounds "
        "every comparison of what it changed.",
    },
    "Outcomes": {
        "marker": "A word or phrase of the lexicon (“wait”, “let me check”). Density is per 100 tokens, because "
        "counts measure length. Higher is more style.",
        "behaviour": "What the text does, whatever its words. Reflection doubts, backtracks or restarts; "
        "verification recomputes or checks an earlier result.",
        "accuracy": "Share of problems whose final answer is verified right, of answers sampled at the study's "
        "temperature; greedy: of answers that take the likeliest token. Higher is better.",
        "verification rate": "Of the wrong steps, the share followed by their correct recomputation. Higher is better.",
        "redone steps": "Steps worked again, per text: an equation with the same operands as the one before, or a "
        "sentence with the same words as the one before up to its result. Openers (“Wait.”) may stand between.",
        "revised": "Of the redone steps, the share that comes to another result than before.",
        "finished": "Share of completions that ended within the limit of tokens. Higher is better; an unfinished one "
        "rarely states an answer.",
        "repetition": "Share of repeated 4-grams. Higher is worse; it guards against text that merely loops.",
    },
    "Noticing and deciding": {
        "injected error": "A digit, sign, operand or number of one right step of a model's own text, made wrong; the "
        "model goes on from the wrong step and, on the same noise, from the untouched one.",
        "checks, mends": "Checks: a behaviour begins right after the step, or the step is mended. Mends: it is worked "
        "again with the right result. Higher after a wrong step is better; a check after a right one is a false alarm.",
        "next token differs": "Total variation: half the summed difference between the next token's probabilities "
        "after the wrong and after the right step. 0 %: the same; 100 %: nothing in common.",
        "onset": "The last token before a behaviour begins.",
        "fork": "A place of the same kind as an onset, at which a behaviour could have begun and did not.",
        "contrast": "Matched pairs of prefixes between which a model may decide differently: with and without an "
        "injected error (wrong / right), at an onset and at a fork, before a marker and before a neutral word.",
        "set back": "Of a latent: to its mean on the negative side, which is what it is after right steps, or before "
        "neutral words.",
        "recurs": "Of a latent: dictionaries of other seeds hold it too (cosine of the decoders, matched one to one).",
        "direct effect": "Of a head, MLP or the embedding: the fall of the margin when its part of the residual at the "
        "site is the negative side's and everything else is kept.",
        "margin": "Log-odds of the next token, in nats: those that follow onsets (or are markers) against those that "
        "follow forks (or are neutral words). Positive leans to the former.",
        "noising, denoising patch": "At the place of decision, the activation of a pair's second side put into the "
        "first, and the reverse; given as the share of the difference in margin that it carries: 0 none, 1 all.",
        "chosen site": "The earliest residual site where the distilled model's decision can be read by a probe and a "
        "noising patch carries enough of the margin.",
    },
    "Crosscoder": {
        "FVE": "Fraction of a model's activation variance that the reconstruction explains, a ratio of sums about "
        "the mean. 1 is perfect, 0 is as good as the mean.",
        "L0": "Latents active on one token, on average. It should be close to k.",
        "loss recovered": "(Next-token loss with the residual set to zero - with it replaced by the reconstruction) "
        "over (with zero - untouched). 1 is all, 0 no better than zero. KL is from the untouched model's distribution "
        "to the spliced one's; 0 is unchanged.",
        "dead": "Share of latents that never fired on the rows they were judged on. Lower is better.",
        "specificity": "‖W_dec[j, m]‖ over its sum over models. 1/n: shared by n models; 1: this model's alone. A "
        "large value alone is no evidence; see ν.",
        "ν of the error, ν of the reconstruction": "Latent Scaling: how much of the latent the strongest other model "
        "has in what the crosscoder left out, and in what it rebuilt, over the same for the claimed model. Lower is "
        "more specific. The claim needs less than 0.2 and less than 0.5.",
        "exclusive": "Specific, and the claim survives Latent Scaling. “By norm” is the weaker one, by specificity "
        "alone.",
        "cosine": "The smallest cosine between the decoders of two models. Near 1: rescaled; near 0: rotated; below 0: "
        "opposed.",
        "rate, mean": "Share of the tokens of a model's own rollouts, prompts included, on which the latent fires, and "
        "its mean activation over all of them.",
    },
    "Behaviour latents": {
        "AUROC": "How well the activation tells tokens inside the behaviour but not at a marker from tokens "
        "elsewhere. 0.5 is chance, 1 is perfect. It is chosen on one half of the problems and confirmed on the other; "
        "the page shows the confirming half except where a column says otherwise.",
        "d, q": "Cohen's d of the same comparison (higher is stronger), and the Benjamini-Hochberg false discovery "
        "rate over all latents (lower is stronger). It comes from the choosing half and takes tokens of one text "
        "for independent, so it ranks latents and is no test.",
        "behaviour latent": "Confirmed, and none of the reverse controls explains it by words.",
        "token latent": "Confirmed, but it fires at least half as hard on its own top tokens alone, put into text "
        "without the behaviour. Those tokens are the ones it fires on off the markers.",
        "marker latent": "Confirmed, but it fires at least half as hard on markers put into such text, or it loses "
        "half of its activation or more where the behaviour's markers become neutral words.",
        "unspecific latent": "Confirmed, but it fires at least half as hard on any token of such text, put in or as it "
        "stands.",
        "bag of markers, linear probe": "How well the markers among the last 16 tokens, counted, and the distilled "
        "model's whole residual tell the behaviour: logistic regressions, fitted on one half of the problems and "
        "scored on the other. The first is what words alone can tell, the second the ceiling of any one latent.",
        "unconfirmed": "Not confirmed on both halves of the problems.",
    },
    "Causal effects": {
        "arm": "One edit of the distilled model beside its matched controls. It is named by what it does.",
        "substitution": "Where the model would write a marker, a neutral word is written in its place: the words go, "
        "the decision to begin something stays.",
        "ban": "No token that completes a marker may be written. The model goes on as it would without the word.",
        "echo": "Where the result of a step worked again is about to be written, the earlier result is forced.",
        "affirmation": "After a phrase that opens a behaviour, words that say all is well are forced, and no other "
        "opening may follow for a while: whatever it begins is cut off.",
        "effect": "Change against the untouched run on the same problems and the same noise. Negative accuracy is a "
        "loss.",
        "interval": "95 %, bootstrap over problems, paired; never over tokens.",
        "fired": "How often the edit changed what was written or computed, over all problems of the arm.",
        "controls": "The same kind of edit on matched random latents, directions, positions or other words; for an "
        "echo, the repeated result drawn anew. The band is the 2.5 to 97.5 percentile over draws. An effect inside "
        "its band shows nothing about what was edited.",
        "p, p (Holm)": "Share of control draws at least as extreme, the effect counted among them, but no less than "
        "the p of the effect's own sampling error; and the same corrected for all arms of one table and outcome, "
        "where style, function and both are one table. Lower is stronger. With n draws p cannot be below 1/(n + 1): "
        "arms whose draws are too few to pass, and those that failed a check, have none.",
        "restored": "Share of the difference between the two runs that a patch carries over: 0 nothing, 1 all, for "
        "noising and denoising alike. Refused where the two runs do not differ.",
        "noising, denoising": "Neutral activations put into the clean run (is the place needed?), and marker "
        "activations into the neutral one (does it suffice?).",
        "hollow": "The untouched model finds the arm's text too improbable (perplexity), or the arm failed a check. "
        "Arms that force words are not judged by perplexity.",
    },
    "Verdict": {
        "gain": "Accuracy of the distilled model less that of the base, or of the control, in points. Positive is "
        "better.",
        "claim": "What an arm is to take away and what it is to keep: style removed, function kept; function removed, "
        "style kept; both removed.",
        "check": "A measurement of whether an arm did what it claims: what it takes away is at most a tenth of what "
        "it was, what it keeps is still there, texts still end, at about their length, and do not loop. The loss of "
        "an arm that fails one is not that of its claim, and no removal is read from it.",
        "own loss": "Accuracy that the distilled model loses under an arm. Positive is worse.",
        "loss of the gain (net)": "The own loss less what the base loses under the same arm.",
        "beyond controls": "The own loss less the mean loss under the arm's controls.",
        "drop, no drop, rise": "Readings of one arm. Drop: the whole intervals of own loss, loss of the gain and loss "
        "beyond controls are above the bound; no drop: those of own loss and loss of the gain are between minus the "
        "bound and the bound; rise: all that a drop asks for, below minus the bound.",
        "bound": "The equivalence bound: an interval wholly inside ± the bound counts as no change. It is the given "
        "one, or a third of the gain where that is smaller.",
        "mediated fraction": "Loss of the gain with the style removed, minus the mean loss under matched controls, "
        "over the gain. 0: none of the gain needs it; 1: all of it. Refused where the gain may be 0, where no removal "
        "of the style passed its checks, and where the controls cost more than the removal.",
        "coverage": "Of what sets the distilled model's words apart from the base's and the control's, the share that "
        "listed markers account for. Higher is better. Words that no lexicon lists and that stay leave “no drop” open.",
        "decorative": "Neither removal costs accuracy, nor do both together.",
        "redundant": "Neither removal alone costs accuracy, both together do: either suffices.",
        "functional": "Removing the function costs accuracy, removing the style does not.",
        "functional, opened by its words": "The same, but a removal of the style that also stops the verification "
        "costs accuracy: the words open the work.",
        "stylistic": "Removing the style, with the function kept, costs accuracy.",
        "harmful": "Removing the style, with the function kept, raises accuracy.",
        "undetermined": "No arm of a removal passed its checks; or an interval neither stays within the bound nor "
        "leaves it (the table says how many problems would decide); or accuracy rises without the verification; or "
        "unlisted words stay; or two removals contradict each other.",
        "no gain": "The distilled model's accuracy is not reliably above the base's, or is above it by less than the "
        "bound given.",
        "no gain beyond training": "The same of its accuracy above the control's.",
    },
}
