"""How many predictions a window of sketches holds, so that counting them opens no sketch."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("sketches", sa.Column("rows", sa.BigInteger, nullable=False, server_default="0"))
    windows = sa.table("sketches", sa.column("id", sa.String), sa.column("rows", sa.BigInteger), sa.column("body", sa.Text))
    connection = op.get_bind()
    for one in connection.execute(sa.select(windows.c.id)).scalars().all():  # one body at a time: each is some 100 kB
        body = connection.execute(sa.select(windows.c.body).where(windows.c.id == one)).scalar_one()
        connection.execute(sa.update(windows).where(windows.c.id == one).values(rows=json.loads(body)["rows"]))
