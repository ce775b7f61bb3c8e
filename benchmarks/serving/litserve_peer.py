"""The model folder behind LitServe, as its documentation writes it: `litserve_peer.py FOLDER PORT`. Runs in a venv of its own."""

import sys

import litserve
import mlflow.pyfunc
import pandas as pd


class Api(litserve.LitAPI):
    """One pyfunc."""

    def setup(self, device: str) -> None:
        self.model = mlflow.pyfunc.load_model(sys.argv[1])

    def decode_request(self, request: dict) -> pd.DataFrame:
        return pd.DataFrame(**request["dataframe_split"])

    def predict(self, frame: pd.DataFrame) -> list:
        return list(self.model.predict(frame))

    def encode_response(self, labels: list) -> dict:
        return {"predictions": labels}


if __name__ == "__main__":
    litserve.LitServer(Api(api_path="/invocations"), accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=int(sys.argv[2]), num_api_servers=1, generate_client_file=False
    )
