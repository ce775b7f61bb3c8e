-- Run once, on an empty volume. `zebra` itself comes from POSTGRES_DB; each product keeps its migrations to a database of its own.
CREATE DATABASE mlflow;
CREATE DATABASE dagster;
