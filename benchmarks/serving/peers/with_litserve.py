"""The model folder behind LitServe, as its documentation writes it: `with_litserve.py FOLDER PORT [MAX_BATCH]`.

With MAX_BATCH requests wait up to 5 ms for company, which is LitServe's own batching. Runs in a venv of its own.
"""

import sys

import litserve
import mlflow.pyfunc
import pandas as pd

MAX_BATCH = int(sys.argv[3]) if len(sys.argv) > 3 else 1


class Api(litserve.LitAPI):
    """One pyfunc."""

    def setup(self, device: str) -> None:
        self.model = mlflow.pyfunc.load_model(sys.argv[1])

    def decode_request(self, request: dict) -> pd.DataFrame:
        return pd.DataFrame(**request["dataframe_split"])

    def batch(self, inputs: list) -> list:
        return inputs

    def predict(self, asked: "pd.DataFrame | list[pd.DataFrame]") -> list:
        if isinstance(asked, pd.DataFrame):
            return list(self.model.predict(asked))
        labels = iter(self.model.predict(pd.concat(asked, ignore_index=True)))
        return [[next(labels) for _ in range(len(one))] for one in asked]

    def unbatch(self, output: list) -> list:
        return output

    def encode_response(self, labels: list) -> dict:
        return {"predictions": labels}


if __name__ == "__main__":
    together = {"max_batch_size": MAX_BATCH, "batch_timeout": 0.005} if MAX_BATCH > 1 else {}
    litserve.LitServer(Api(api_path="/invocations", **together), accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=int(sys.argv[2]), num_api_servers=1, generate_client_file=False, log_level="warning"
    )
