Spark = None
