"""Write the specification of the NWB extension `ndx-migvis` into the top-level `spec/` folder.

Run `python src/spec/create_extension_spec.py` after a change here, and commit what it writes. The YAML files
ship in the wheel and are cached in every file that holds results. `parsed.json` says what they say, with
their digests: importing the package reads it in place of YAML files with these digests, which is faster.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pynwb.spec import (
    NWBAttributeSpec,
    NWBDatasetSpec,
    NWBGroupSpec,
    NWBNamespaceBuilder,
    export_spec,
)
from ruamel.yaml import YAML

NAME = "ndx-migvis"
VERSION = "0.2.0"


def column(
    name: str, dtype: str, doc: str, *, dims: tuple[str, ...] | None = None, optional: bool = False
) -> NWBDatasetSpec:
    """Return a table column: one value per row, or one array per row where `dims` names further axes."""
    sized = {} if dims is None else {"dims": ["row", *dims], "shape": [None] * (1 + len(dims))}
    return NWBDatasetSpec(
        name=name,
        neurodata_type_inc="VectorData",
        dtype=dtype,
        doc=doc,
        quantity="?" if optional else 1,
        **sized,
    )


def table(type_name: str, doc: str, columns: list[NWBDatasetSpec]) -> NWBGroupSpec:
    """Return a type that extends DynamicTable with the given columns."""
    return NWBGroupSpec(
        neurodata_type_def=type_name, neurodata_type_inc="DynamicTable", doc=doc, datasets=columns
    )


def network_weights() -> NWBDatasetSpec:
    """Return the type that holds the weights of one network."""
    return NWBDatasetSpec(
        neurodata_type_def="NetworkWeights",
        neurodata_type_inc="NWBData",
        dtype="uint8",
        dims=["byte"],
        shape=[None],
        doc="Weights of one network: the bytes of a file in the format that the attribute names. They hold "
        "arrays and text only; reading them executes nothing.",
        attributes=[
            NWBAttributeSpec("description", "What the network computes.", "text"),
            NWBAttributeSpec("format", "Format of the bytes.", "text", value="safetensors"),
            NWBAttributeSpec("sha256", "SHA-256 digest of the bytes, in hexadecimal.", "text"),
        ],
    )


def model() -> NWBGroupSpec:
    """Return the type that says how a run was made."""
    return NWBGroupSpec(
        neurodata_type_def="MigvisModel",
        neurodata_type_inc="NWBContainer",
        doc="How a run was made: its settings, the software and the inputs with their digests, and the "
        "networks' weights, so that further edits need no refitting.",
        attributes=[
            NWBAttributeSpec("config", "Every setting as used (JSON object).", "text", required=False),
            NWBAttributeSpec(
                "versions", "Version by software package (JSON object).", "text", required=False
            ),
            NWBAttributeSpec(
                "digests",
                "SHA-256 digests of the `inputs`, the `weights` and what the `tables` say (JSON object).",
                "text",
                required=False,
            ),
            NWBAttributeSpec(
                "provenance",
                "What else is known about the run: seeds, number of threads, device, how the session was "
                "read, times (JSON object).",
                "text",
            ),
        ],
        groups=[],
        datasets=[
            NWBDatasetSpec(
                neurodata_type_inc="NetworkWeights", doc="Weights, one dataset per network.", quantity="*"
            )
        ],
    )


def latent_groups() -> NWBGroupSpec:
    """Return the table of latent groups."""
    held_out = "on held-out stimuli, relative to the reliable variance of the responses"
    return table(
        "LatentGroupsTable",
        "Groups of latents, one row per group, with the evidence that each carries information about the "
        "responses. NaN: not measurable in this session.",
        [
            column("group", "text", "Name of the group."),
            column("first", "int64", "Index of the group's first latent (from 0)."),
            column("size", "int64", "Number of latents in the group."),
            column(
                "supervised_by",
                "text",
                "Stimulus labels that supervised the group in training, joined by commas; empty for a "
                "free group.",
            ),
            column(
                "variance_explained",
                "float64",
                f"Variance explained by the group's latents alone {held_out}.",
            ),
            column(
                "variance_explained_p",
                "float64",
                "Permutation p-value of `variance_explained`.",
            ),
            column(
                "variance_unique",
                "float64",
                f"Variance explained by all latents minus that by all but this group's, {held_out}.",
            ),
            column(
                "variance_unique_p",
                "float64",
                "Permutation p-value of `variance_unique`.",
            ),
            column(
                "mi_bound_nats",
                "float64",
                "Lower bound (InfoNCE) on the mutual information between the group's latents and the image, "
                "on held-out stimuli, in nats.",
            ),
            column("mi_cap_nats", "float64", "Largest value that `mi_bound_nats` can take (log N), in nats."),
            column("mi_p", "float64", "Permutation p-value of `mi_bound_nats`."),
            column(
                "stability",
                "float64",
                "Agreement of the group between fits that differ in seed or data, in [0, 1]. The column is "
                "absent where it was not measured.",
                optional=True,
            ),
            *(column(name, dtype, doc, optional=True) for name, dtype, doc in group_evidence(held_out)),
        ],
    )


PARTS = {
    "repeatable": "Whether the group explains responses of other repeats (`variance_explained`)",
    "decoded": "Whether the group's own labels are decoded beyond other labels and nuisances (`beyond`)",
    "beyond_labels": "Whether the group explains responses beyond all labels",
    "stable": "Whether fits from other seeds find the group again: similarity to its namesake beyond that to "
    "other groups",
    "shown": "Whether edits of the group show what it encodes, by every reader that can read it or in the "
    "responses that an encoding model predicts",
}
PART_COLUMNS = {
    "": "estimate, above 0 where it holds",
    "_low": "lower bound of the 95 % confidence interval",
    "_high": "upper bound of the 95 % confidence interval",
    "_p": "p-value",
    "_q": "p-value adjusted over the groups (Benjamini and Hochberg)",
}


def group_evidence(held_out: str) -> list[tuple[str, str, str]]:
    """Return names, dtypes and texts of the optional columns on what a group encodes."""
    adjusted = "adjusted over the groups of the run (Benjamini and Hochberg)."
    beyond = "Variance explained by the group's latents beyond"
    tested = [
        ("variance_explained_q", f"`variance_explained_p` {adjusted}"),
        ("variance_unique_q", f"`variance_unique_p` {adjusted}"),
        ("mi_q", f"`mi_p` {adjusted}"),
        (
            "information_nats",
            "Mutual information between the group's latents and the image on held-out stimuli, in nats, "
            "estimated from the denoising errors of the conditional prior with and without the group.",
        ),
        ("information_p", "Permutation p-value of `information_nats`."),
        (
            "variance_beyond_labels",
            f"{beyond} the labels that supervised it {held_out}. NaN for a free group.",
        ),
        ("variance_beyond_labels_p", "Permutation p-value of `variance_beyond_labels`."),
        (
            "variance_beyond_images",
            f"{beyond} low-level features of the images (pixels, Gabor energies) {held_out}.",
        ),
        ("variance_beyond_images_p", "Permutation p-value of `variance_beyond_images`."),
        (
            "decoding",
            "Mean score of decoding the group's own labels from its latents (R2 or accuracy, cross-validated "
            "over the test stimuli). NaN for a free group.",
        ),
        ("decoding_p", "P-value of `decoding`: whole stimuli permuted against their labels."),
        ("decoding_q", f"`decoding_p` {adjusted}"),
        (
            "own_group_gap",
            "Mean score of the group's own labels minus that from the best other group; scores are scaled to "
            "0 for guesses and 1 for perfect.",
        ),
        ("participation_ratio", "Linear dimensions that the group's latents use on the test stimuli."),
        ("twonn_dimension", "Dimension of the manifold of the group's latents on the test stimuli (TwoNN)."),
        *(
            (f"{name}_{end}", f"{which} bound of the 95 % confidence interval of `{name}`.")
            for name in ("variance_explained", "variance_unique", "own_group_gap")
            for end, which in (("low", "Lower"), ("high", "Upper"))
        ),
    ]
    verdict = (
        "Whether the group's claim stands, and which parts of it hold. Begins with: established, not "
        "established, confounded, or not measured."
    )
    tested += [
        (f"{part}{end}", f"{of_part}: {what}.")
        for part, of_part in PARTS.items()
        for end, what in PART_COLUMNS.items()
    ]
    return [(name, "float64", doc) for name, doc in tested] + [("verdict", "text", verdict)]


def stimulus_latents() -> NWBGroupSpec:
    """Return the table of the stimuli's latents."""
    spec = table(
        "StimulusLatentsTable",
        "Latents of the shown stimuli, one row per stimulus: the posterior given the population's response.",
        [
            column("stimulus", "text", "Stimulus id: the image's name, else a hash of its pixels."),
            column("mean", "float32", "Mean of the latents.", dims=("latent",)),
            column("log_var", "float32", "Natural logarithm of the latents' variance.", dims=("latent",)),
            column("split", "text", "Part of the data that the stimulus is in: train, validation or test."),
            column("n_presentations", "int64", "Number of presentations that the response averages."),
        ],
    )
    spec.set_dataset(
        NWBDatasetSpec(
            name="presentations",
            neurodata_type_inc="DynamicTableRegion",
            doc="Rows of the stimulus's presentations in the table that they were read from, such as "
            "/intervals/trials. Absent where they were read from a series, or the file has no such table.",
            quantity="?",
        )
    )
    spec.set_dataset(
        NWBDatasetSpec(
            name="presentations_index",
            neurodata_type_inc="VectorIndex",
            doc="Index of `presentations`: where the rows of each stimulus end.",
            quantity="?",
        )
    )
    return spec


def stimulus_label() -> NWBDatasetSpec:
    """Return the type of a column that holds one label of the stimuli."""
    return NWBDatasetSpec(
        neurodata_type_def="StimulusLabel",
        neurodata_type_inc="VectorData",
        dims=["row"],
        shape=[None],
        doc="A label of the stimuli: numbers (float64), NaN where unknown, or text, empty where unknown.",
        attributes=[
            NWBAttributeSpec(
                "label", "Name of the label, which the name of the column may differ from.", "text"
            ),
            NWBAttributeSpec("period", "Period of a number that wraps; 0 for others and text.", "float64"),
        ],
    )


def stimulus_labels() -> NWBGroupSpec:
    """Return the table of the stimuli's labels, whose further columns are of the type `StimulusLabel`."""
    return table(
        "StimulusLabelsTable",
        "Labels of the shown stimuli as the run knew them, one row a stimulus and, beside `stimulus`, one "
        "column of the type StimulusLabel a label.",
        [column("stimulus", "text", "Stimulus id, as in `stimulus_latents` and in its order.")],
    )


def unit_loadings() -> NWBGroupSpec:
    """Return the table of the units' loadings."""
    spec = table(
        "UnitLoadingsTable",
        "What the latents say about each unit, one row per unit. NaN: not measurable in this session.",
        [
            column("unit", "int64", "Id of the unit in the table of units that was read."),
            column(
                "loading",
                "float32",
                "Weight of each latent in the decoder: change of the unit's prediction, before any output "
                "nonlinearity, per unit step of the latent.",
                dims=("latent",),
            ),
            column(
                "r2",
                "float64",
                "Fraction of the unit's response variance that all latents predict on held-out stimuli.",
            ),
            column(
                "noise_ceiling",
                "float64",
                "The `r2` that a perfect model would reach, given the noise between repeats.",
            ),
            column("reliability", "float64", "Split-half reliability of the responses (Spearman-Brown)."),
            column(
                "electrode_group",
                "text",
                "Name of the unit's electrode group. Present where ids of units repeat.",
                optional=True,
            ),
        ],
    )
    spec.set_dataset(
        NWBDatasetSpec(
            name="unit_row",
            neurodata_type_inc="DynamicTableRegion",
            doc="Row of the unit in the file's Units table (/units). Absent where the file has no such table "
            "or the units come from another one.",
            quantity="?",
        )
    )
    return spec


def synthesized_images() -> NWBGroupSpec:
    """Return the table of edits."""
    spec = table(
        "SynthesizedImagesTable",
        "Edits of shown images, one row per edit: what changes in the image when one latent group is moved "
        "to another value and the other groups are held.",
        [
            column("group", "text", "Latent group that the edit moves."),
            column("source", "text", "Stimulus id of the image that was edited."),
            column(
                "target",
                "text",
                "Stimulus id whose value of the group is the goal; empty for a traversal. For the method "
                "`shuffled`, the nominal target.",
            ),
            column("method", "text", "Guidance; `pmi` is the method proper, the others are controls."),
            column(
                "role",
                "text",
                "Purpose: main (pairs that the evidence is measured on), dose (a series of rising doses), "
                "traversal (no target) or further (pairs made later from the stored weights).",
            ),
            column("strength", "float64", "Start step of the denoising over the number of steps, in (0, 1]."),
            column("guidance", "float64", "Length of the guidance relative to the prior's own prediction."),
            column(
                "gamma",
                "float64",
                "Length of a traversal, in standard deviations of the group's latents; "
                "0 where a stimulus is the target.",
            ),
            column("direction", "text", "Direction of a traversal; empty where a stimulus is the target."),
            column("seed", "int64", "Seed of the edit's random numbers."),
            column(
                "score_before",
                "float64",
                "Critic's score (nats) of the goal's group value on the source.",
            ),
            column("score_after", "float64", "Critic's score (nats) of the goal's group value on the edit."),
            column(
                "support",
                "float64",
                "How unusual the latents are that guided the edit: percentile (0 to 100) of their distance "
                "from the training latents among the distances of held-out stimuli.",
                optional=True,
            ),
            column(
                "predicted_rate",
                "float32",
                "Spike count per presentation that an encoding model from images to responses expects of the "
                "edit, per unit of `unit_loadings`. NaN where it was not predicted.",
                dims=("unit",),
                optional=True,
            ),
            column(
                "map",
                "float32",
                "Where the edit changed the image: absolute difference from the source, as a fraction of the "
                "range of the pixels. Absent where it was not made.",
                dims=("y", "x"),
                optional=True,
            ),
            column(
                "critic_map",
                "float32",
                "Where the critic looked: length of the gradient of its score at the source, in nats per "
                "standard deviation of the pixels. Absent where it was not made.",
                dims=("y", "x"),
                optional=True,
            ),
        ],
    )
    spec.set_dataset(
        NWBDatasetSpec(
            name="image",
            neurodata_type_inc="VectorData",
            dtype="uint8",
            dims=[["row", "y", "x"], ["row", "y", "x", "channel"]],
            shape=[[None, None, None], [None, None, None, 3]],
            doc="Pixels of the edit, row 0 at the top: grayscale, or red, green and blue.",
        )
    )
    return spec


def selectivity() -> list[NWBGroupSpec]:
    """Return the three tables of the evidence, in long form."""
    group = column("group", "text", "Latent group that the edits moved.")
    label = column("label", "text", "Stimulus label that was read from the edits.")
    method = column("method", "text", "Guidance of the edits.")
    reader = column("reader", "text", "Reader: a network trained on real images that guidance never used.")
    bounds = [
        column(f"{name}_{end}", "float64", f"{which} bound of the 95 % confidence interval of `{name}`.")
        for name in ("transfer", "retention")
        for end, which in (("low", "Lower"), ("high", "Upper"))
    ]
    return [
        table(
            "SelectivityTable",
            "How far edits of each group move each label, one row per combination of group, label, method "
            "and reader. NaN: not measured.",
            [
                group,
                label,
                method,
                reader,
                column("transfer", "float64", "How far the label moved from source (0) to target (1)."),
                column("retention", "float64", "How much of the source's label was kept (1: all)."),
                *bounds,
                column("p_value", "float64", "Permutation p-value of `transfer`."),
                column(
                    "q_value",
                    "float64",
                    "`p_value` adjusted over the rows of the table (Benjamini and Hochberg).",
                    optional=True,
                ),
            ],
        ),
        table(
            "ReaderScoresTable",
            "How well each reader reads each label on real held-out images, one row per pair. A label that "
            "is not read there is not measurable on edits.",
            [
                label,
                reader,
                column(
                    "reader_score",
                    "float64",
                    "R2 of a numeric label, or balanced accuracy above chance scaled to 1.",
                ),
            ],
        ),
        table(
            "SelectivityIndexTable",
            "Selectivity over the supervised groups, one row per pair of method and reader. NaN: fewer than "
            "two such groups.",
            [
                method,
                reader,
                column(
                    "si_transfer",
                    "float64",
                    "Mean transfer of a group's own label minus the mean transfer of other groups' labels.",
                ),
                column(
                    "si_strict",
                    "float64",
                    "Mean transfer of a group's own label minus the mean of 1 - retention of other "
                    "groups' labels.",
                ),
                *(
                    column(
                        f"{name}_{end}",
                        "float64",
                        f"{which} bound of the 95 % confidence interval of `{name}`.",
                        optional=True,
                    )
                    for name in ("si_transfer", "si_strict")
                    for end, which in (("low", "Lower"), ("high", "Upper"))
                ),
            ],
        ),
    ]


def decoding() -> list[NWBGroupSpec]:
    """Return the two tables of label decoding."""
    label = column("label", "text", "Stimulus label that was decoded.")
    rest = "the other labels, low-level image features and time of presentation leave over"
    beyond = {
        "beyond": f"Decoding of what {rest} of the label, by a reading fitted on training stimuli: signed "
        "squared correlation on test stimuli, 0 for a guess and 1 for a perfect reading.",
        "beyond_low": "Lower bound of the 95 % confidence interval of `beyond`.",
        "beyond_high": "Upper bound of the 95 % confidence interval of `beyond`.",
        "beyond_p": "Permutation p-value of `beyond`: labels of test stimuli permuted over levels.",
        "beyond_q": "`beyond_p` adjusted over the rows of the table (Benjamini and Hochberg).",
        "beyond_left": f"Share of the label's variance that {rest}.",
    }
    score = "cross-validated over the test stimuli: R2 of a numeric label, or accuracy."
    return [
        table(
            "DecodingTable",
            "How well each label is decoded from each group's latents, one row per pair. NaN: not measured.",
            [
                column("group", "text", "Latent group that the label was decoded from."),
                label,
                column("score", "float64", f"Score {score}"),
                column("chance", "float64", "Mean score of labels permuted over stimuli."),
                column("p_value", "float64", "Permutation p-value of `score`."),
                column("q_value", "float64", "`p_value` adjusted (Benjamini and Hochberg)."),
                *(column(name, "float64", doc, optional=True) for name, doc in beyond.items()),
            ],
        ),
        table(
            "LabelDecodingTable",
            "How well each label is decoded from all latents, and how far one group alone holds it, one row "
            "per label. NaN: not measured.",
            [
                label,
                column("score_all", "float64", f"Score from all latents {score}"),
                column(
                    "mig",
                    "float64",
                    "Information that the best group's reading has about the label minus the second best's, "
                    "over the label's entropy.",
                ),
                *(
                    column(
                        f"mig_{end}",
                        "float64",
                        f"{which} bound of the 95 % confidence interval of `mig`.",
                        optional=True,
                    )
                    for end, which in (("low", "Lower"), ("high", "Upper"))
                ),
                column("sap", "float64", "Score of the best group minus that of the second best."),
            ],
        ),
    ]


def analyses() -> list[NWBGroupSpec]:
    """Return the table of one further analysis, and the group that holds such tables."""
    one = table(
        "AnalysisTable",
        "What a further analysis computed, in long form: one row per combination of the values of its axes, "
        "which are the first columns. Every column says in its description what it holds.",
        [],
    )
    one.set_attribute(
        NWBAttributeSpec("analysis", "Name of the analysis; it can have several tables.", "text")
    )
    one.set_attribute(
        NWBAttributeSpec(
            "structure",
            "What makes arrays of the columns again (JSON object): names of the axes (`dims`), further "
            "columns that are coordinates (`coordinates`), and `attributes` by column, those of the analysis "
            "under an empty name.",
            "text",
        )
    )
    group = NWBGroupSpec(
        neurodata_type_def="FurtherAnalyses",
        neurodata_type_inc="NWBDataInterface",
        doc="What analyses beyond those of every run computed. A new analysis needs no new type.",
        groups=[
            NWBGroupSpec(neurodata_type_inc="AnalysisTable", doc="Tables of the analyses.", quantity="*")
        ],
    )
    return [one, group]


def run() -> NWBGroupSpec:
    """Return the container of a run."""
    parts = [
        ("model", "MigvisModel", "How the run was made.", 1),
        ("latent_groups", "LatentGroupsTable", "The groups of latents.", 1),
        ("stimulus_latents", "StimulusLatentsTable", "Latents of the shown stimuli.", 1),
        ("stimulus_labels", "StimulusLabelsTable", "Labels of the shown stimuli, where there are any.", "?"),
        ("unit_loadings", "UnitLoadingsTable", "Loadings of the units.", 1),
        ("synthesized_images", "SynthesizedImagesTable", "Edits, where the session holds pixels.", "?"),
        ("selectivity", "SelectivityTable", "Evidence, where there are edits and labels.", "?"),
        ("reader_scores", "ReaderScoresTable", "Scores of the readers on real images.", "?"),
        ("selectivity_index", "SelectivityIndexTable", "Selectivity over the supervised groups.", "?"),
        ("decoding", "DecodingTable", "Label decoding from each group, where the session has labels.", "?"),
        ("label_decoding", "LabelDecodingTable", "Label decoding from all latents.", "?"),
        (
            "gallery",
            "Images",
            "Some of the edits, at most 40, for viewers: drawn by the run's seed, none chosen by how it "
            "looks. The name of an image says its row of `synthesized_images`, group, source, target and "
            "strength.",
            "?",
        ),
        ("analyses", "FurtherAnalyses", "Further analyses, where any were made.", "?"),
    ]
    return NWBGroupSpec(
        neurodata_type_def="MigvisRun",
        neurodata_type_inc="NWBDataInterface",
        doc="What one run found: how visual information is organised in this population, and what each part "
        "of it encodes. Several runs can stand side by side under /analysis, each by its own name.",
        attributes=[NWBAttributeSpec("description", "What the run is.", "text")],
        groups=[
            NWBGroupSpec(name=name, neurodata_type_inc=type_name, doc=doc, quantity=quantity)
            for name, type_name, doc, quantity in parts
        ],
    )


def main(folder: Path) -> None:
    """Write namespace and extension files into a folder."""
    namespace = NWBNamespaceBuilder(
        name=NAME,
        version=VERSION,
        doc="Group-wise latents of a visual population, images synthesized under their guidance, and the "
        "evidence for what each group encodes.",
        author=["the nwb-migvis developers"],
        contact=["none"],
    )
    # All of core: pynwb validates whole files, whatever they hold, by the namespace of the extension.
    namespace.include_namespace("core")
    types = [
        network_weights(),
        model(),
        latent_groups(),
        stimulus_latents(),
        stimulus_label(),
        stimulus_labels(),
        unit_loadings(),
        synthesized_images(),
        *selectivity(),
        *decoding(),
        *analyses(),
        run(),
    ]
    export_spec(namespace, types, str(folder))
    write_parsed(folder)


def write_parsed(folder: Path) -> None:
    """Write what the YAML files of a folder say as JSON, with their digests."""
    parsed = {}
    for file in sorted(folder.glob("*.yaml")):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        parsed[file.name] = {"sha256": digest, "content": YAML(typ="safe", pure=True).load(file)}
    text = json.dumps(parsed, indent=1, ensure_ascii=False)
    (folder / "parsed.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(__file__).parents[2] / "spec")
