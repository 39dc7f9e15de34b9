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
        "repetition": "Share of repeated 4-grams. Higher is worse; it guards against text that merely loops.",
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
        "behaviour latent": "Confirmed, and it fires less than half as hard where its top tokens are put into text "
        "without the behaviour.",
        "token latent": "Confirmed, but it fires at least half as hard on its own top tokens alone, put into text "
        "without the behaviour. Those tokens are the ones it fires on off the markers, so they are no markers.",
        "unconfirmed": "Not confirmed on both halves of the problems.",
    },
    "Causal effects": {
        "effect": "Change against the untouched run on the same problems and the same noise. Negative accuracy is a "
        "loss. In the reading table a drop is accuracy lost beyond the mean loss under matched controls, so positive "
        "is a loss.",
        "interval": "95 %, bootstrap over problems, paired; never over tokens.",
        "controls": "The same edit on matched random latents, directions or positions. The band is the 2.5 to 97.5 "
        "percentile over draws. An effect inside its band shows nothing about what was edited.",
        "p, p (Holm)": "Share of control draws at least as extreme, the effect counted among them, and the same "
        "corrected for all arms of the same family and outcome. Lower is stronger; with n draws p cannot be below "
        "1/(n + 1).",
        "restored": "Share of the difference between the two runs that a patch carries over: 0 nothing, 1 all, for "
        "noising and denoising alike. Refused where the two runs do not differ.",
        "noising, denoising": "Neutral activations put into the clean run (is the place needed?), and marker "
        "activations into the neutral one (does it suffice?).",
        "coherence guard": "A dose whose text the untouched model finds too improbable (perplexity) is drawn hollow.",
    },
    "Verdict": {
        "gain": "Accuracy of the distilled model less that of the base, in points. Positive is better.",
        "mediated fraction": "Accuracy lost with the style removed, minus the mean loss under matched controls, over "
        "the gain. "
        "0: none of the gain needs it; 1: all of it. Refused where the gain's interval contains 0.",
        "drop, no drop, rise": "Readings of one removal. Drop: the whole interval of accuracy lost is above the bound; "
        "no drop: between minus the bound and the bound; rise: below minus the bound.",
        "bound": "The equivalence bound: an interval wholly inside ± the bound counts as no change.",
        "decorative": "Neither removal costs accuracy, nor do both together.",
        "redundant": "Neither removal alone costs accuracy, both together do: either suffices.",
        "functional": "Removing the function costs accuracy, removing the style does not.",
        "stylistic": "Removing the style costs accuracy.",
        "undetermined": "An interval neither stays within the bound nor leaves it (the table says how many problems "
        "would decide), or accuracy rises under a removal.",
    },
}
