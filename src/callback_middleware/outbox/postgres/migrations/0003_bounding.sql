-- How much may be live: looked at before something is put, and read from the queue's indexes, because a counter would be
-- a row on which all puts of one receiver wait for each other.

-- How many deliveries of an origin are queued; `most` where there are more.
CREATE FUNCTION live(key bigint, most integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN (SELECT count(*) FROM (
    -- Of a column, and not written out: the index of all that is parked has nothing of `NOT ready` to offer then.
    (SELECT FROM unnest('{true,false}'::boolean[]) r(ready) CROSS JOIN LATERAL (
      SELECT FROM queue q WHERE q.ready = r.ready AND NOT q.suspect AND q.origin_key = key LIMIT most
    ) of_it LIMIT most)
    UNION ALL (SELECT FROM queue WHERE suspect AND origin_key = key LIMIT most)
    LIMIT most
  ) few);
END $$;

-- Why one more delivery finds no room: the bound's name; null if it does.
--
-- A long count is remembered, by the session for a second, or for the transaction where the session is somebody else's
-- (`bounds` says which): counted for each that is put, one receiver's backlog would delay what is put for the others.
-- What others put meanwhile is not seen; where there is no room for a thousand more, everybody is counted.
CREATE FUNCTION refusal(bounds json, key bigint, whose text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  newcomer constant integer := bounds->>'newcomer';
  per_origin constant integer := bounds->>'per_origin';
  per_owner constant integer := bounds->>'per_owner';
  plenty constant integer := 1000;
  most integer := per_origin;
  name text := 'per_origin';
  here constant text := 'queue'::regclass::oid;
  known jsonb := nullif(current_setting('callback_middleware.counts', true), '');
  learnt jsonb := '{}';
  many integer;
BEGIN
  IF known->>'of' <> here OR (known->>'until')::timestamptz < clock_timestamp() THEN
    known := NULL;
  END IF;
  IF newcomer <= coalesce(per_origin, newcomer)
    AND NOT EXISTS (SELECT FROM origin WHERE origin_key = key AND accepted_at IS NOT NULL) THEN
    most := newcomer;
    name := 'newcomer';
  END IF;
  IF most IS NOT NULL THEN
    many := known->>('to ' || key);
    IF many IS NULL OR most - many < plenty THEN
      many := live(key, most);
    END IF;
    IF many >= most THEN
      RETURN name;
    ELSIF many >= plenty THEN
      learnt := jsonb_build_object('to ' || key, many + 1);
    END IF;
  END IF;
  IF whose IS NOT NULL AND per_owner IS NOT NULL THEN
    many := known->>('by ' || whose);
    IF many IS NULL OR per_owner - many < plenty THEN
      many := (SELECT count(*) FROM (SELECT FROM queue WHERE owner = whose LIMIT per_owner) few);
    END IF;
    IF many >= per_owner THEN
      RETURN 'per_owner';
    ELSIF many >= plenty THEN
      learnt := learnt || jsonb_build_object('by ' || whose, many + 1);
    END IF;
  END IF;
  IF learnt <> '{}' THEN
    known := coalesce(known, jsonb_build_object('of', here, 'until', clock_timestamp() + interval '1 second')) || learnt;
    PERFORM set_config('callback_middleware.counts', known::text, NOT coalesce((bounds->>'remembered')::boolean, false));
  END IF;
  RETURN NULL;
END $$;

-- How many deliveries of each of these origins are queued, up to the bound that holds for it, and who has ever accepted.
CREATE FUNCTION standing(keys bigint[], newcomer integer, per_origin integer)
RETURNS TABLE (origin_key bigint, live integer, accepted boolean) LANGUAGE plpgsql STABLE
  SET search_path FROM CURRENT SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  RETURN QUERY
  SELECT k.key, live(k.key, coalesce(CASE WHEN known.accepted THEN per_origin ELSE least(newcomer, per_origin) END, 0)),
    known.accepted
  FROM unnest(keys) k(key), LATERAL (
    SELECT coalesce((SELECT o.accepted_at IS NOT NULL FROM origin o WHERE o.origin_key = k.key), false) AS accepted
  ) known;
END $$;
