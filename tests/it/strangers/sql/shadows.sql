-- Whoever may create something in `public` puts a thing of his own in the place of everything in `pg_catalog`: each complains when it
-- is touched, with the database's name in the server's log.
SET check_function_bodies = off;
CREATE FUNCTION public.shadow() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN RAISE EXCEPTION 'shadow in %', pg_catalog.current_database(); END $$;

DO $$
DECLARE
    item record;
    body text := 'BEGIN RAISE EXCEPTION ''shadow in %'', pg_catalog.current_database(); END';
    made bigint := 0;
BEGIN
    FOR item IN SELECT p.proname, p.proretset, pg_get_function_identity_arguments(p.oid) AS arguments,
                       oidvectortypes(p.proargtypes) AS types, format_type(p.prorettype, NULL) AS result
                FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s %s LANGUAGE plpgsql IMMUTABLE AS %L', item.proname, item.types,
                           CASE WHEN item.proretset THEN 'SETOF' END, item.result, body);
            made := made + 1;
        EXCEPTION WHEN OTHERS THEN NULL; -- types that only the server's own languages know
        END;
    END LOOP;
    FOR item IN SELECT o.oprname, format_type(nullif(o.oprleft, 0), NULL) AS left, format_type(o.oprright, NULL) AS right,
                       format_type(o.oprresult, NULL) AS result, 'shadow_' || o.oid AS function
                FROM pg_operator o WHERE o.oprnamespace = 'pg_catalog'::regnamespace
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql IMMUTABLE AS %L', item.function,
                           concat_ws(', ', item.left, item.right), item.result, body);
            EXECUTE format('CREATE OPERATOR public.%s (%sRIGHTARG = %s, FUNCTION = public.%I)', item.oprname,
                           'LEFTARG = ' || item.left || ', ', item.right, item.function);
            made := made + 1;
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
    FOR item IN SELECT t.typname FROM pg_type t
                WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype = 'b' AND t.typcategory <> 'A'
    LOOP
        BEGIN
            EXECUTE format('CREATE DOMAIN public.%I AS pg_catalog.%1$I CHECK (public.shadow())', item.typname);
            made := made + 1;
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
    FOR item IN SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind IN ('r', 'v')
    LOOP
        BEGIN
            EXECUTE format('CREATE VIEW public.%I AS SELECT * FROM pg_catalog.%1$I WHERE public.shadow()', item.relname);
            made := made + 1;
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
    -- What an operator of two names could be mistaken for, which the server has not: a better match than any of its own.
    CREATE FUNCTION public.shadow_names(name, name) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
        'BEGIN RAISE EXCEPTION ''shadow in %'', pg_catalog.current_database(); END';
    CREATE OPERATOR public.|| (LEFTARG = name, RIGHTARG = name, FUNCTION = public.shadow_names);
    ASSERT made > 3000, made;
END $$;
