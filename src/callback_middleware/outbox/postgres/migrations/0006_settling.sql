-- Settling: each applies only while its fence holds; the attempt of one that does not is kept all the same.
--
-- Arrays of one length, or with the one value that all have (`spread`). Every fence once, in the order of ids: they are
-- taken in it, so that two who settle the same never wait for each other. What has no outcome was not attempted. Which
-- have applied, or null for all of them; and whether somebody may claim something now that nobody could before.
CREATE FUNCTION settle(ids uuid[], fences bigint[], verdicts text[], afters bigint[], reasons text[], gone boolean[],
  runs integer[], numbers integer[], started timestamptz[], durations bigint[], outcomes text[], statuses integer[],
  details text[], bodies bytea[], mismatches text[], told timestamptz,
  OUT applied_ids uuid[], OUT applied_fences bigint[], OUT freed boolean)
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off SET enable_hashjoin = off
  SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  now_ constant timestamptz := instant();
  skew constant interval := skew(told);
  rows_ constant integer := cardinality(ids);
  whole boolean;
  suspected boolean;
  waiting_ids uuid[];
  waiting_fences bigint[];
  waiting_origins bigint[];
  origins bigint[];
  accepting bigint[];
  new_ bigint[];
  old bigint[];
  asked uuid[];
  leaving uuid[];
BEGIN
  fences := spread(fences, rows_);
  verdicts := spread(verdicts, rows_);
  reasons := spread(reasons, rows_);
  gone := spread(gone, rows_);
  outcomes := spread(outcomes, rows_);

  WITH ended AS (
    DELETE FROM queue q USING unnest(ids, fences, verdicts, reasons, gone, outcomes)
      g(id, fence, verdict, reason, gone, outcome)
    WHERE q.id = ANY (ARRAY[g.id]) AND q.fence = g.fence AND q.leased AND g.verdict IN ('delivered', 'dead')
    RETURNING q.id, q.fence, q.run, q.origin_key, q.claims - q.attempts > 1 AS suspect,
      q.attempts + (g.outcome IS NOT NULL)::integer AS attempts, g.verdict, coalesce(g.reason, '') AS reason, g.gone
  ), told AS (
    INSERT INTO result (delivery, run, state, ended_at, attempts, fence, reason)
    SELECT e.id, e.run, e.verdict, now_, e.attempts, e.fence, e.reason FROM ended e
  )
  SELECT array_agg(e.id), array_agg(e.fence), coalesce(bool_or(e.suspect), false), array_agg(DISTINCT e.origin_key),
    array_agg(DISTINCT e.origin_key) FILTER (WHERE e.verdict = 'delivered'),
    array_agg(e.id) FILTER (WHERE e.gone AND e.verdict = 'dead')
  INTO applied_ids, applied_fences, freed, origins, accepting, leaving FROM ended e;

  IF verdicts && '{retry,released}' THEN
    -- While its fence holds, nobody else counts anything of it.
    WITH given AS (
      SELECT g.id, g.fence, g.verdict, coalesce(g.after_, 0) AS after_, coalesce(g.reason, '') AS reason,
        w.claims - w.attempts > 1 AS suspect, w.attempts + m.made AS attempted,
        CASE WHEN m.made = 1 THEN w.attempts + 1 WHEN g.verdict = 'released' THEN w.claims - 1 ELSE w.claims END
          AS claimed
      FROM unnest(ids, fences, verdicts, spread(afters, rows_), reasons, outcomes)
          g(id, fence, verdict, after_, reason, outcome)
        JOIN queue w ON w.id = ANY (ARRAY[g.id]) AND w.fence = g.fence
        CROSS JOIN LATERAL (SELECT (g.outcome IS NOT NULL)::integer AS made) m
      WHERE g.verdict IN ('retry', 'released')
    ), waiting AS (
      UPDATE queue q SET leased = false, due_at = now_ + g.after_ * interval '1 microsecond', ready = g.after_ <= 0,
        attempts = g.attempted, claims = g.claimed, suspect = g.claimed > g.attempted,
        reason = CASE g.verdict WHEN 'retry' THEN g.reason ELSE q.reason END
      FROM given g WHERE q.id = ANY (ARRAY[g.id]) AND q.fence = g.fence AND q.leased
      RETURNING q.id, q.fence, q.origin_key, g.suspect
    )
    SELECT array_agg(w.id), array_agg(w.fence), coalesce(bool_or(w.suspect), false), array_agg(DISTINCT w.origin_key)
    INTO waiting_ids, waiting_fences, suspected, waiting_origins FROM waiting w;
    applied_ids := applied_ids || waiting_ids;
    applied_fences := applied_fences || waiting_fences;
    freed := freed OR suspected;
    origins := origins || waiting_origins;
  END IF;
  whole := coalesce(cardinality(applied_ids), 0) = rows_;

  -- One suspect that is settled lets the next one go (above); and one of a newcomer's. That a receiver accepts is
  -- written down when it is news, or was so a minute ago: a row for each receiver in each call would be one more to
  -- write for nearly every delivery.
  SELECT array_agg(k.key) FILTER (WHERE o.accepted_at IS NULL AND k.key = ANY (accepting)),
    array_agg(k.key) FILTER (WHERE o.accepted_at < now_ - interval '1 minute' AND k.key = ANY (accepting)),
    array_agg(o.asked) FILTER (WHERE o.asked IS NOT NULL)
  INTO new_, old, asked FROM (SELECT DISTINCT key FROM unnest(origins) key) k
    LEFT JOIN origin o ON o.origin_key = ANY (ARRAY[k.key]);
  freed := freed OR coalesce(asked && applied_ids, false);
  IF new_ IS NOT NULL THEN
    INSERT INTO origin AS o (origin_key, accepted_at) SELECT key, now_ FROM unnest(new_) key ORDER BY key
    ON CONFLICT (origin_key) DO UPDATE SET accepted_at = excluded.accepted_at, asked = NULL;
  END IF;
  IF old IS NOT NULL THEN
    -- Whoever is first writes it down: workers do not wait for each other here.
    UPDATE origin o SET accepted_at = now_
    FROM (SELECT f.origin_key FROM origin f WHERE f.origin_key = ANY (old) FOR UPDATE SKIP LOCKED) free
    WHERE o.origin_key = ANY (ARRAY[free.origin_key]);
  END IF;

  IF leaving IS NOT NULL THEN
    -- One that somebody's transaction is changing is left as it is, for as long as that goes on: the next delivery to it
    -- hears the same, and no worker waits.
    UPDATE subscription s SET ended_at = now_ FROM (
      SELECT held.digest FROM unnest(leaving) l(id) JOIN delivery d ON d.id = ANY (ARRAY[l.id])
        JOIN subscription held ON held.digest = ANY (ARRAY[d.subscription])
      WHERE held.owner IS NOT DISTINCT FROM d.subscription_owner
        AND held.generation = d.generation AND held.ended_at IS NULL
      FOR UPDATE OF held SKIP LOCKED
    ) quit WHERE s.digest = ANY (ARRAY[quit.digest]);
  END IF;

  -- One attempt for each fence, however often it is told, of deliveries that are not forgotten.
  INSERT INTO attempt (delivery, fence, run, number, started_at, duration, outcome, status, detail, body, mismatch)
  SELECT a.id, a.fence, a.run, a.number, a.started + skew, a.duration, a.outcome, a.status, a.detail, a.body, a.mismatch
  FROM unnest(ids, fences, spread(runs, rows_), spread(numbers, rows_), spread(started, rows_), spread(durations, rows_),
      outcomes, spread(statuses, rows_), spread(details, rows_), spread(bodies, rows_), spread(mismatches, rows_))
    a(id, fence, run, number, started, duration, outcome, status, detail, body, mismatch)
  WHERE a.outcome IS NOT NULL
    AND (whole OR a.id = ANY (applied_ids) OR (SELECT true FROM delivery d WHERE d.id = a.id))
  ON CONFLICT (delivery, fence) DO NOTHING;

  IF whole THEN
    applied_ids := NULL;
    applied_fences := NULL;
  ELSE
    applied_ids := coalesce(applied_ids, '{}');
    applied_fences := coalesce(applied_fences, '{}');
  END IF;
END $$;

-- Never attempt a delivery again, unless it is replayed. Whether it was queued.
CREATE FUNCTION cancel(which uuid) RETURNS boolean LANGUAGE plpgsql
  SET search_path FROM CURRENT SET enable_seqscan = off AS $$
BEGIN
  WITH gone AS (DELETE FROM queue WHERE id = which RETURNING *)
  INSERT INTO result (delivery, run, state, ended_at, attempts, fence, reason)
  SELECT id, run, 'cancelled', instant(), attempts, fence, reason FROM gone;
  RETURN FOUND;
END $$;

-- Begin new runs of those of these that have ended, of each origin so far apart, after as many as were begun before.
-- How many of each origin.
CREATE FUNCTION replay(ids uuid[], spacing bigint, before_origins bigint[], before_counts bigint[])
RETURNS TABLE (origin_key bigint, begun bigint) LANGUAGE sql SET search_path FROM CURRENT SET enable_seqscan = off AS $$
  WITH given AS (
    SELECT g.id, g.place FROM unnest(ids) WITH ORDINALITY g(id, place)
  ), ended AS (
    UPDATE result r SET latest = false FROM (
      SELECT l.delivery, l.run FROM given JOIN result l ON l.delivery = ANY (ARRAY[given.id])
      WHERE l.latest ORDER BY given.id FOR UPDATE OF l
    ) l WHERE r.delivery = ANY (ARRAY[l.delivery]) AND r.run = l.run
    RETURNING r.delivery, r.run, r.fence
  ), again AS (
    SELECT d.id, d.origin_key, d.subscription_owner AS owner, e.run + 1 AS run, e.fence, p.max_age,
      instant() + spacing * interval '1 microsecond' * (
        coalesce(before_counts[array_position(before_origins, d.origin_key)], 0)
        + row_number() OVER (PARTITION BY d.origin_key ORDER BY given.place) - 1
      ) AS due_at
    FROM ended e JOIN delivery d ON d.id = ANY (ARRAY[e.delivery]) JOIN given ON given.id = d.id JOIN retry p ON p.id = d.retry
  ), queued AS (
    INSERT INTO queue (id, origin_key, due_at, ready, fence, run, owner)
    SELECT a.id, a.origin_key, a.due_at, a.due_at <= instant(), a.fence, a.run, a.owner FROM again a
  ), renewed AS (
    UPDATE delivery d SET expires_at = a.due_at + a.max_age * interval '1 microsecond' FROM again a
    WHERE d.id = ANY (ARRAY[a.id]) AND a.max_age IS NOT NULL
  )
  SELECT a.origin_key, count(*) FROM again a GROUP BY a.origin_key
$$;

-- Forget deliveries that ended before a moment, attempts included; keys, subscriptions and receivers that are over.
-- It waits for nobody: what others use at this moment is left for another time.
CREATE FUNCTION prune(before timestamptz, most integer) RETURNS integer LANGUAGE plpgsql
  SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
  now_ constant timestamptz := instant();
  old uuid[];
  unknown bigint[];
  anywhere constant bigint := (random() - 0.5) * 18446744073709549568;
BEGIN
  -- What a crash brings back is forgotten again.
  PERFORM set_config('synchronous_commit', 'off', true);
  old := ARRAY(SELECT delivery FROM result WHERE latest AND ended_at < before LIMIT most FOR UPDATE SKIP LOCKED);
  DELETE FROM attempt WHERE delivery = ANY (old);
  DELETE FROM result WHERE delivery = ANY (old);
  DELETE FROM delivery WHERE id = ANY (old);
  DELETE FROM dedupe WHERE digest IN (SELECT digest FROM dedupe WHERE until <= now_ LIMIT 500 FOR UPDATE SKIP LOCKED);
  DELETE FROM subscription WHERE digest IN (
    SELECT s.digest FROM subscription s WHERE (s.ended_at < before OR s.expires_at < least(before, now_))
    AND NOT EXISTS (SELECT FROM delivery d WHERE d.subscription = s.digest) LIMIT 500 FOR UPDATE OF s SKIP LOCKED);
  -- One that never accepted anything, or nothing since then (it was written a minute before that at worst), and has
  -- nothing queued, is as good as unknown. Some are looked at, from anywhere
  -- on: in time all are. Twice, because until it is locked a claim may ask it for something.
  unknown := ARRAY(
    SELECT o.origin_key FROM (
      (SELECT * FROM origin WHERE origin_key >= anywhere ORDER BY origin_key LIMIT 5000)
      UNION ALL (SELECT * FROM origin WHERE origin_key < anywhere ORDER BY origin_key LIMIT 5000)
    ) few JOIN origin o ON o.origin_key = few.origin_key
    WHERE (o.accepted_at IS NULL OR o.accepted_at < before - interval '1 minute') AND live(o.origin_key, 1) = 0 LIMIT 500
    FOR UPDATE OF o SKIP LOCKED);
  DELETE FROM origin WHERE origin_key = ANY (unknown) AND live(origin_key, 1) = 0;
  RETURN cardinality(old);
END $$;
