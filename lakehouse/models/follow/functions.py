"""What is known of DuckDB's functions: which of them always give the same answer for the same rows.

A name that is not here is not understood, and a SELECT with it is not followed: also where it would be harmless.
Not here are those that look at the clock, at chance, at the session or at files, those whose answer
depends on the order in which rows come (unless an ORDER BY says it), and those whose answer is an estimate.
"""

SCALAR = frozenset(
    """
    ! != % & && * ** + - -> ->> / // < << <= <> <@ = == > >= >> @ @> ^ ^@ | || ~ ~~ !~~ ~~* !~~* ~~~
    like_escape not_like_escape ilike_escape not_ilike_escape
    abs acos acosh add asin asinh atan atan2 atanh bit_count cbrt ceil ceiling cos cosh cot degrees divide even exp factorial
    fdiv floor fmod gamma gcd greatest greatest_common_divisor isfinite isinf isnan lcm least least_common_multiple lgamma
    ln log log10 log2 mod multiply nextafter pi pow power radians round round_even roundbankers sign signbit sin sinh
    sqrt subtract tan tanh trunc xor
    array_to_string ascii bar base64 bin bit_length char_length character_length chr concat concat_ws contains
    damerau_levenshtein decode editdist3 encode ends_with format format_bytes from_base64 from_binary from_hex hamming
    hex instr jaccard jaro_similarity jaro_winkler_similarity lcase left left_grapheme len length length_grapheme levenshtein
    lower lpad ltrim md5 md5_number mismatches nfc_normalize octet_length ord overlay parse_dirname parse_dirpath
    parse_filename parse_path position prefix printf regexp_escape regexp_extract regexp_extract_all regexp_full_match
    regexp_matches regexp_replace regexp_split_to_array repeat replace reverse right right_grapheme rpad rtrim sha1 sha256
    split split_part starts_with str_split str_split_regex string_split string_split_regex string_to_array strip_accents
    strlen strpos substr substring substring_grapheme suffix to_base to_base64 to_binary to_hex translate trim ucase unbin
    unhex unicode upper url_decode url_encode
    century date_add date_diff date_part date_sub date_trunc datediff datepart datesub datetrunc day dayname dayofmonth
    dayofweek dayofyear days_in_month decade epoch epoch_ms epoch_ns epoch_us era hour isodow isoyear julian last_day
    make_date make_time make_timestamp make_timestamp_ms make_timestamp_ns make_timestamptz microsecond millennium
    millisecond minute month monthname nanosecond quarter second strftime strptime time_bucket timezone timezone_hour
    timezone_minute to_centuries to_days to_decades to_hours to_microseconds to_millennia to_milliseconds to_minutes
    to_months to_quarters to_seconds to_timestamp to_weeks to_years try_strptime week weekday weekofyear year yearweek
    array_append array_apply array_cat array_concat array_contains array_distinct array_extract array_filter array_has
    array_has_all array_has_any array_indexof array_intersect array_length array_pop_back array_pop_front array_position
    array_prepend array_push_back array_push_front array_reverse array_reverse_sort array_select array_slice array_sort
    array_transform array_unique array_value array_where array_zip cardinality element_at flatten generate_series grade_up
    list_append list_apply list_avg list_bool_and list_bool_or list_cat list_concat list_contains list_count list_distinct
    list_element list_extract list_filter list_first list_has list_has_all list_has_any list_indexof list_intersect
    list_last list_max list_median list_min list_pack list_position list_prepend list_product list_reduce list_resize
    list_reverse list_reverse_sort list_select list_slice list_sort list_string_agg list_sum list_transform list_unique
    list_value list_where list_zip map map_concat map_contains map_entries map_extract map_extract_value map_from_entries
    map_keys map_values range reduce row struct_concat struct_extract struct_extract_at struct_insert struct_pack
    struct_update
    array_to_json from_json from_json_strict json_array json_array_length json_contains json_exists json_extract
    json_extract_path json_extract_path_text json_extract_string json_keys json_merge_patch json_object json_structure
    json_transform json_transform_strict json_type json_valid json_value row_to_json to_json
    if nullif typeof
    """.split()  # noqa: SIM905 - a page of names is read as one
)

AGGREGATES = frozenset(
    """
    arg_max arg_max_null arg_max_nulls_last arg_min arg_min_null arg_min_nulls_last argmax argmin avg
    bit_and bit_or bit_xor bool_and bool_or corr count count_if count_star countif covar_pop covar_samp entropy favg fsum
    geomean geometric_mean histogram histogram_exact kahan_sum kurtosis kurtosis_pop mad max max_by mean median min min_by
    product quantile quantile_cont quantile_disc regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx
    regr_sxy regr_syy sem skewness stddev stddev_pop stddev_samp sum sum_no_overflow sumkahan var_pop var_samp variance
    wavg weighted_avg
    """.split()  # noqa: SIM905
)

IN_ORDER = frozenset(  # of rows: which one is first, or how they are put together
    "any_value arbitrary array_agg first group_concat last list listagg string_agg".split()  # noqa: SIM905
)

PEERS = frozenset("cume_dist dense_rank percent_rank rank rank_dense".split())  # noqa: SIM905 - equal for equal rows
PLACES = frozenset("first_value lag last_value lead nth_value ntile row_number".split())  # noqa: SIM905 - need an order

TABLES = frozenset(("generate_series", "range", "unnest"))  # functions that a FROM may call

OPERATORS = frozenset(
    """
    ARRAY_CONSTRUCTOR ARRAY_EXTRACT ARRAY_SLICE COMPARE_IN COMPARE_NOT_IN OPERATOR_COALESCE OPERATOR_IS_NOT_NULL
    OPERATOR_IS_NULL OPERATOR_NOT OPERATOR_NULLIF OPERATOR_TRY STRUCT_EXTRACT
    """.split()  # noqa: SIM905
)

VOLATILE_NAMES = frozenset(  # of functions that are written without parentheses
    """
    current_catalog current_database current_date current_role current_schema current_time current_timestamp current_user
    localtime localtimestamp session_user user
    """.split()  # noqa: SIM905
)
