"""The names that every part of the project shares, each list once, in the order of every table and figure."""

MODELS = ("base", "distilled", "zero_rl", "control")
"""The models of a study."""
COMPARED = MODELS[:3]
"""The models between which the crosscoder is trained; the control only answers."""
EDITED = "distilled"
"""The model whose rollouts are labelled and whose activations are edited."""
WORLD_NAMES = ("chains", "prose_sums", "tracking", "lists")
"""The tasks that organisms can be trained on."""
REFLECTION, VERIFICATION = "reflection", "verification"
BEHAVIOURS = (REFLECTION, VERIFICATION)
"""What a text can do, whatever its words."""
GENUINE, OF_TOKENS, OF_MARKERS, UNSPECIFIC = LATENT_KINDS = (
    "behaviour latent",
    "token latent",
    "marker latent",
    "unspecific latent",
)
"""What a confirmed latent is after its reverse controls; only the first is edited as a behaviour's."""
OUTCOMES = (
    "accuracy",
    "marker_density",
    "verification_rate",
    "redone",
    "revised",
    "length",
    "finished",
    "repetition",
)
"""What is measured of every rollout."""
STAGE_NAMES = ("checkpoints", "traces", "sites", "activations", "crosscoder", "features", "causal", "report")
"""The stages of a study, in the order of the data."""
