"""The training of models/tabular-churn as one would write it with MLflow alone: log parameters and metrics, register.

    python by_hand.py --train train.parquet --valid valid.parquet --tracking sqlite:///mlflow.db

Same rows, same pipeline, same parameters. What costs nothing is spared: requirements are given, because inferring them
takes MLflow 5 to 30 s, and no input example is stored.
"""

import argparse

import mlflow
import mlflow.sklearn
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import f1_score, log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

PARAMS = {"learning_rate": 0.05, "max_iter": 120, "max_leaf_nodes": 8, "min_samples_leaf": 40, "l2_regularization": 1.0}
TRUSTED = ["numpy.dtype", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("train", "valid", "tracking"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args()
    mlflow.set_tracking_uri(given.tracking)
    mlflow.set_experiment("by-hand")
    train, valid = pd.read_parquet(given.train), pd.read_parquet(given.valid)
    features = [name for name in train.columns if name not in ("customer_id", "churn")]
    words = [name for name in features if train[name].dtype == object]
    with mlflow.start_run():
        mlflow.log_params(PARAMS)
        encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        columns = make_column_transformer((encode, words), remainder="passthrough")
        model = make_pipeline(columns, HistGradientBoostingClassifier(random_state=42, **PARAMS))
        model.fit(train[features], train["churn"])
        truth, score = valid["churn"] == "Yes", model.predict_proba(valid[features])[:, 1]
        figures = {"roc_auc": roc_auc_score(truth, score), "log_loss": log_loss(truth, score), "f1": f1_score(truth, score > 0.5)}
        mlflow.log_metrics(figures)
        mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name="by-hand",
            signature=mlflow.models.infer_signature(train[features], train["churn"]),
            pip_requirements=["scikit-learn", "skops", "pandas"],
            skops_trusted_types=TRUSTED,
        )
    print(figures)


if __name__ == "__main__":
    main()
