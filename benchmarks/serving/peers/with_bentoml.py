"""The model folder behind BentoML: `bentoml serve with_bentoml:Peer`, with MODEL_FOLDER in the environment. Runs in a venv of its own."""

import os

import bentoml
import mlflow.pyfunc
import pandas as pd


@bentoml.service(workers=1, traffic={"timeout": 120}, logging={"access": {"enabled": False}})
class Peer:
    """One pyfunc."""

    def __init__(self) -> None:
        self.model = mlflow.pyfunc.load_model(os.environ["MODEL_FOLDER"])

    @bentoml.api(route="/invocations")
    def invocations(self, dataframe_split: dict) -> dict:
        return {"predictions": list(self.model.predict(pd.DataFrame(**dataframe_split)))}
