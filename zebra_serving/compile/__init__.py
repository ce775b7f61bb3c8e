"""From a promoted model to the quickest form that gives the same answers.

    child process (scikit-learn, skl2onnx)                    server process
    plan: pipeline -> recipe + tail -> graph -> check  ─ form.json, model.onnx ─>  workshop -> forms

`recipe` and `form` are what both sides share. The child is `python -m zebra_serving.compile`, so that a server whose model
has compiled never imports scikit-learn, pandas or mlflow (119 MB resident instead of 281 for the plain form).
"""

from zebra_assets import telemetry

telemetry.off()  # ONNX Runtime reads it when it is imported, which nothing outside this package does
