# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words that cannot be the name of a table, since gearmand writes it into its SQL without quotes."""

from __future__ import annotations


def _words(text):
    return frozenset(text.split())


# Tried with gearmand's statements on SQLite 3.40, of the words of https://sqlite.org/lang_keywords.html.
SQLITE = _words(
    """
    add all alter and as autoincrement between case check collate commit constraint create
    default deferrable delete distinct drop else escape except exists foreign from group
    having if in index insert intersect into is isnull join limit not nothing notnull null
    on or order primary references returning select set table then to transaction union
    unique update using values when where
    """
)

# https://mariadb.com/kb/en/reserved-words/ and those of MySQL 8 besides.
MARIADB = _words(
    """
    accessible add all alter analyze and as asc asensitive before between bigint binary blob
    both by call cascade case change char character check collate column condition
    constraint continue convert create cross current_date current_role current_time
    current_timestamp current_user cursor database databases day_hour day_microsecond
    day_minute day_second dec decimal declare default delayed delete delete_domain_id desc
    describe deterministic distinct distinctrow div do_domain_ids double drop dual each else
    elseif enclosed escaped except exists exit explain false fetch float float4 float8 for
    force foreign from fulltext function general grant group groups having high_priority
    hour_microsecond hour_minute hour_second if ignore ignore_domain_ids ignore_server_ids
    in index infile inner inout insensitive insert int int1 int2 int3 int4 int8 integer
    intersect interval into is iterate join key keys kill lateral leading leave left like
    limit linear lines load localtime localtimestamp lock long longblob longtext loop
    low_priority master_heartbeat_period master_ssl_verify_server_cert match maxvalue
    mediumblob mediumint mediumtext middleint minute_microsecond minute_second mod modifies
    natural no_write_to_binlog not null numeric offset on optimize optionally or order out
    outer outfile over page_checksum parse_vcol_expr partition position precision primary
    procedure purge range rank read read_write reads real recursive ref_system_id references
    regexp release rename repeat replace require resignal restrict return returning revoke
    right rlike row row_number rows schema schemas second_microsecond select sensitive
    separator set show signal slow smallint spatial specific sql sql_big_result
    sql_calc_found_rows sql_small_result sqlexception sqlstate sqlwarning ssl starting
    stats_auto_recalc stats_persistent stats_sample_pages straight_join system table
    terminated then tinyblob tinyint tinytext to trailing trigger true undo union unique
    unlock unsigned update usage use using utc_date utc_time utc_timestamp values varbinary
    varchar varcharacter varying vector when where while window with write xor year_month
    zerofill
    """
)

# The PostgreSQL manual, SQL Key Words: reserved, or not usable as the name of a table.
POSTGRES = _words(
    """
    all analyse analyze and any array as asc asymmetric authorization between bigint binary
    bit boolean both case cast char character check coalesce collate collation column
    concurrently constraint create cross current_catalog current_date current_role
    current_schema current_time current_timestamp current_user dec decimal default
    deferrable desc distinct do else end except exists extract false fetch float for foreign
    freeze from full grant greatest group grouping having ilike in initially inner inout int
    integer intersect interval into is isnull join json json_array json_arrayagg json_exists
    json_object json_objectagg json_query json_scalar json_serialize json_table json_value
    lateral leading least left like limit localtime localtimestamp merge_action national
    natural nchar none normalize not notnull null nullif numeric offset on only or order out
    outer overlaps overlay placing position precision primary real references returning
    right row select session_user setof similar smallint some substring symmetric
    system_user table tablesample then time timestamp to trailing treat trim true union
    unique user using values varchar variadic verbose when where window with xmlattributes
    xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot
    xmlserialize xmltable
    """
)
