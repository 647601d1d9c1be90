"""An HTTP server that answers from one saved model, by FastAPI.

    python tests/examples/server.py model.sops --port 8000
    curl localhost:8000/predict -H 'content-type: application/json' \
        -d '{"texts": ["the dog runs"], "k": 2}'

The model is mapped: servers of one file share its pages. Under a process manager:
SPARSEOPS_MODEL=model.sops uvicorn --app-dir tests/examples --factory server:app_of_model
"""

import argparse
import os
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, FiniteFloat, model_validator

import cython_sparseops as cso

MOST_ROWS = 256  # of one request, so that none keeps the others waiting


class Row(BaseModel, extra="forbid"):
    ids: list[int]
    weights: list[FiniteFloat]


class Question(BaseModel, extra="forbid"):
    texts: Annotated[list[str], Field(max_length=MOST_ROWS)] | None = None
    rows: Annotated[list[Row], Field(max_length=MOST_ROWS)] | None = None
    k: Annotated[int, Field(ge=1)] | None = None  # 5, or all classes if they are fewer

    @model_validator(mode="after")
    def one_kind(self) -> "Question":
        if (self.texts is None) == (self.rows is None):
            raise ValueError("give either texts or rows")
        return self


class Answer(BaseModel):
    labels: list[Any]
    probabilities: list[float]


def create_app(predictor: cso.Predictor) -> FastAPI:
    """The application for anything that answers `top_k_rows` as a predictor does."""
    app = FastAPI(title="cython_sparseops")

    @app.exception_handler(RequestValidationError)
    def refuse(request: Request, error: RequestValidationError) -> JSONResponse:
        """Without the input: a NaN in it could not be sent back as JSON."""
        told = [{"at": list(one["loc"]), "reason": one["msg"]} for one in error.errors()]
        return JSONResponse({"detail": told}, status_code=422)

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "ok", "classes": len(predictor.classes)}

    @app.post("/predict")
    async def predict(question: Question) -> list[Answer]:
        # On the event loop: an answer takes less time than handing it to a thread.
        k = question.k or min(5, len(predictor.classes))
        rows = question.texts
        if rows is None:
            rows = [(row.ids, row.weights) for row in question.rows]
        try:
            found = predictor.top_k_rows(rows, k)
        except (TypeError, ValueError) as error:
            raise HTTPException(400, str(error)) from error
        return [Answer(labels=one.labels, probabilities=one.probabilities) for one in found]

    return app


def app_of_model() -> FastAPI:
    """The application for the file that the environment names."""
    return create_app(cso.Predictor.load(os.environ["SPARSEOPS_MODEL"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="file of a classifier, or of `sparseops train`")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    app = create_app(cso.Predictor.load(arguments.model))
    uvicorn.run(app, port=arguments.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
