"""The statements of the quick way on PostgreSQL (`loopwright.track.quick`): each is a whole transaction.

Each gives a row for what was stored, with its place among what was given, the length of the series' tail where it has
one, and what the commit waits for; no row, and nothing was stored, where a run is not there or is deleted.
"""

from __future__ import annotations

_LATER = "(excluded.last_step, excluded.last_at, excluded.last_bits) > (s.last_step, s.last_at, s.last_bits)"
_MOVE = f"""
  ON CONFLICT (run_seq, key_id) DO UPDATE SET tail_count = s.tail_count + excluded.tail_count,
    last_step = CASE WHEN {_LATER} THEN excluded.last_step ELSE s.last_step END,
    last_at = CASE WHEN {_LATER} THEN excluded.last_at ELSE s.last_at END,
    last_bits = CASE WHEN {_LATER} THEN excluded.last_bits ELSE s.last_bits END,
    last_value = CASE WHEN {_LATER} THEN excluded.last_value ELSE s.last_value END"""
# Whether its commit waits for the disk is said within the statement: whoever has the connection next inherits nothing.
# The lock is taken, and waited for, before anything is written, in the order of the runs as everywhere.
POINTS = f"""
WITH held AS MATERIALIZED (
  SELECT id, project, seq FROM runs WHERE id = ANY ($1::text[]) AND deleted_at IS NULL ORDER BY seq FOR NO KEY UPDATE
), given AS MATERIALIZED (
  SELECT h.seq, p.* FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::float8[], $10::bigint[])
    AS p (place, project, run, key_id, step, at_us, bits, value, many)
  JOIN held AS h ON h.id = p.run AND h.project = p.project
), put AS (
  INSERT INTO run_series AS s (run_seq, key_id, last_step, last_at, last_bits, last_value, found_value, tail_count)
  SELECT seq, key_id, step, at_us, bits, value, value, many FROM given
  WHERE (SELECT count(*) FROM given) = cardinality($2) ORDER BY seq, key_id{_MOVE}
  RETURNING s.id, s.run_seq, s.key_id, s.tail_count
), placed AS MATERIALIZED (
  SELECT put.id, g.place, put.tail_count FROM put JOIN given AS g ON g.seq = put.run_seq AND g.key_id = put.key_id
), added AS (
  INSERT INTO run_points (series_id, step, at, bits)
  SELECT placed.id, p.step, p.at_us, p.bits
  FROM unnest($11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[]) AS p (place, step, at_us, bits)
  JOIN placed ON placed.place = p.place ON CONFLICT DO NOTHING
), touched AS (
  INSERT INTO run_changes (run_seq, revision) SELECT seq, txid_current() FROM held ORDER BY seq
  ON CONFLICT (run_seq) DO UPDATE SET revision = excluded.revision
)
SELECT place, tail_count, level FROM placed CROSS JOIN (
  SELECT set_config('synchronous_commit', coalesce($15::text, current_setting('synchronous_commit')), true) AS level
) AS waiting
"""  # noqa: S608 - made of constants
ONE_POINT = f"""
WITH held AS MATERIALIZED (
  SELECT seq FROM runs WHERE id = $1::text AND project = $2::text AND deleted_at IS NULL FOR NO KEY UPDATE
), put AS (
  INSERT INTO run_series AS s (run_seq, key_id, last_step, last_at, last_bits, last_value, found_value, tail_count)
  SELECT seq, $3::bigint, $4::bigint, $5::bigint, $6::bigint, $7::float8, $7, 1 FROM held{_MOVE}
  RETURNING s.id, s.tail_count
), added AS (
  INSERT INTO run_points (series_id, step, at, bits) SELECT id, $4, $5, $6 FROM put ON CONFLICT DO NOTHING
), touched AS (
  INSERT INTO run_changes (run_seq, revision) SELECT seq, txid_current() FROM held
  ON CONFLICT (run_seq) DO UPDATE SET revision = excluded.revision
)
SELECT 0::bigint AS place, tail_count,
  CASE WHEN $8::text IS NULL THEN current_setting('synchronous_commit')
    ELSE set_config('synchronous_commit', $8, true) END AS level
FROM put
"""  # noqa: S608 - made of constants

# A param that has another value already fails the statement by the division: nothing of it is stored, whoever set that.
PARAMS = """
WITH held AS MATERIALIZED (
  SELECT seq FROM runs WHERE id = $1::text AND project = $2::text AND deleted_at IS NULL FOR NO KEY UPDATE
), put AS (
  INSERT INTO run_params AS s (run_seq, key_id, value, head)
  SELECT held.seq, p.* FROM held CROSS JOIN unnest($3::bigint[], $4::text[], $5::text[]) AS p (key_id, value, head)
  ON CONFLICT (run_seq, key_id) DO UPDATE SET value = s.value WHERE s.value = excluded.value
  RETURNING 1
), touched AS (
  INSERT INTO run_changes (run_seq, revision) SELECT seq, txid_current() FROM held
  ON CONFLICT (run_seq) DO UPDATE SET revision = excluded.revision
)
SELECT 0::bigint / ((SELECT count(*) FROM put) / cardinality($3)) AS place, NULL::bigint AS tail_count,
  CASE WHEN $6::text IS NULL THEN current_setting('synchronous_commit')
    ELSE set_config('synchronous_commit', $6, true) END AS level
FROM held
"""
ALL = (POINTS, ONE_POINT, PARAMS)
