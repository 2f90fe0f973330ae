"""
description: Which third of its category's prices a product is in, for filters such as "not the dearest".
grain: one product
key: [sku]
inputs:
  products: shop.products
columns:
  band: low, middle or high, within the category; equal prices are in one band
tests:
  - not_null: [sku, band]
  - accepted_values: {column: band, values: [low, middle, high]}
"""

import polars as pl


def price_bands(products: pl.DataFrame) -> pl.DataFrame:
    rank = pl.col("price").rank("min").over("category")
    share = (rank - 1) / pl.len().over("category")
    band = pl.when(share < 1 / 3).then(pl.lit("low")).when(share < 2 / 3).then(pl.lit("middle"))
    return products.select("sku", "category", "price", band=band.otherwise(pl.lit("high")))
