import pytest

from tasks.runtime.redaction import hide

ADDRESSES = {
    "postgresql://keeper:s3cret@db:5432/mlflow": "postgresql://keeper:***@db:5432/mlflow",
    "postgresql+psycopg2://keeper:s3c%40ret@db/mlflow": "postgresql+psycopg2://keeper:***@db/mlflow",
    "https://keeper:a:b@mlflow.example.org/x": "https://keeper:***@mlflow.example.org/x",
    "https://:token@mlflow.example.org": "https://:***@mlflow.example.org",
    "postgresql:///mlflow?host=db&password=s3cret&a=b": "postgresql:///mlflow?host=db&password=***&a=b",
    "http://127.0.0.1:5000/api": "http://127.0.0.1:5000/api",
    "sqlite:////data/mlruns/mlflow.db": "sqlite:////data/mlruns/mlflow.db",
    "s3://bucket/user@host:1": "s3://bucket/user@host:1",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_the_password_of_an_address_is_hidden_and_nothing_else(address: str) -> None:
    assert (
        hide(f"at {address}, or {address}") == f"at {ADDRESSES[address]}, or {ADDRESSES[address]}"
    )
