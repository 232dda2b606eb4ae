"""One row per email address of profiles: how mail to it goes on the wire."""

import polars as pl

from activations.addresses import wire_address


def model(dbt, session):
    dbt.config(materialized="table")
    emails = dbt.ref("addresses").filter("channel = 'email' and address is not null")
    addresses = emails.project("address").distinct().pl()["address"].sort()
    return pl.DataFrame(
        {
            "address": addresses,
            "wire_address": [wire_address(address) for address in addresses],
        },
        schema={"address": pl.String, "wire_address": pl.String},
    ).to_arrow()
