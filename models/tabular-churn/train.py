"""Fit gradient-boosted trees on churn and say how good they are on the valid rows."""

from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import f1_score, log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from zebra_assets.training import sdk


def build(words: list[str], seed: int, params: dict) -> object:
    """Words become numbers, one never seen becomes -1; the trees take missing values as they are."""
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encode, words), remainder="passthrough")
    return make_pipeline(columns, HistGradientBoostingClassifier(random_state=seed, **params))


def main() -> None:
    run = sdk.current()
    train, valid = run.train(), run.valid()
    words = [name for name in run.features if train[name].dtype == object]

    model = build(words, run.seed, run.params)
    model.fit(train[run.features], train[run.label.column])

    truth = valid[run.label.column] == run.label.positive
    score = model.predict_proba(valid[run.features])[:, list(model.classes_).index(run.label.positive)]
    metrics = {"roc_auc": roc_auc_score(truth, score), "log_loss": log_loss(truth, score), "f1": f1_score(truth, score > 0.5)}
    run.log_metrics({f"valid_{name}": value for name, value in metrics.items()})
    print(f"{len(train):,} rows, {len(run.features)} features, " + ", ".join(f"valid {k} {v:.3f}" for k, v in metrics.items()))

    run.save_model(model, example=train.head(5))


if __name__ == "__main__":
    main()
