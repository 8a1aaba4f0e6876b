// Makes a token, shows it once, and with it the commands to copy.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api } from "../api/client";
import type { MadeToken, TokenKind } from "../api/rows";
import { address, commands, isLoopback, type Place } from "../lib/fleet";
import { plural } from "../lib/format";
import { Command } from "../parts/Command";
import { Answers, Dialog } from "../parts/Dialog";
import { Choose, Field } from "../parts/Field";

const KINDS: { value: TokenKind; name: string }[] = [
  { value: "join", name: "Controller" },
  { value: "ingest", name: "Sender" },
  { value: "api", name: "Script" },
];
const WHAT: Record<TokenKind, string> = {
  join: "Lets controllers join. Each gets a credential of its own on first contact.",
  ingest: "Lets programs send OpenTelemetry here, and nothing else.",
  api: "Lets a script ask and change what this page can, except tokens.",
};
const PLACES: { value: Place; name: string }[] = [
  { value: "host", name: "Linux host" },
  { value: "docker", name: "Docker" },
  { value: "kubernetes", name: "Kubernetes" },
];
const DAY = 86_400;
const EXPIRES = [
  { value: "3600", name: "1 hour" },
  { value: String(DAY), name: "1 day" },
  { value: String(30 * DAY), name: "30 days" },
  { value: "", name: "no end" },
];
// A node joins once; one token may serve a cluster or an image.
const MOST_USES = 4_294_967_295;

export function AddController({ kind: first, onClose }: { kind: TokenKind; onClose: () => void }) {
  const [kind, setKind] = useState(first);
  const [made, setMade] = useState<MadeToken>();
  const adds = first === "join";
  if (made !== undefined) return <Made made={made} onClose={onClose} />;
  return (
    <Dialog label={adds ? "Add a controller" : "New token"} onClose={onClose}>
      {adds ? null : (
        <Choose label="Kind" value={kind} choices={KINDS} onChange={(value) => setKind(value as TokenKind)} />
      )}
      <p className="dim">{WHAT[kind]}</p>
      <Make kind={kind} onMade={setMade} onClose={onClose} />
    </Dialog>
  );
}

function Make({
  kind,
  onMade,
  onClose,
}: {
  kind: TokenKind;
  onMade: (made: MadeToken) => void;
  onClose: () => void;
}) {
  const [name, setName] = useState("");
  const [environment, setEnvironment] = useState("");
  const [uses, setUses] = useState("");
  const [expires, setExpires] = useState(String(DAY));
  const client = useQueryClient();
  const count = Number(uses);
  const mistake =
    uses === "" || (Number.isInteger(count) && count >= 1 && count <= MOST_USES)
      ? undefined
      : "A whole number from 1, or empty for any.";
  const make = useMutation({
    mutationFn: () =>
      api.makeToken({
        kind,
        name: name.trim(),
        ...(expires === "" ? {} : { expires_seconds: Number(expires) }),
        ...(kind === "join" && uses !== "" ? { uses: count } : {}),
        ...(kind === "join" && environment.trim() !== "" ? { environment: environment.trim() } : {}),
      }),
    onSuccess: async (made) => {
      onMade(made);
      await client.invalidateQueries({ queryKey: ["tokens"] });
    },
  });
  return (
    <form
      className="form"
      onSubmit={(event) => {
        event.preventDefault();
        if (mistake === undefined) make.mutate();
      }}
    >
      <Field label="Name" value={name} onChange={setName} placeholder="what it is for" first />
      {kind === "join" ? (
        <>
          <Field
            label="Environment"
            value={environment}
            onChange={setEnvironment}
            placeholder="production"
            help="Of the nodes that join with it; configuration can be set for it."
          />
          <Field
            label="Nodes that may join"
            value={uses}
            onChange={setUses}
            placeholder="any number"
            mistake={mistake}
            number
          />
        </>
      ) : null}
      <div className="field">
        <span className="label">Good for</span>
        <Choose label="Good for" value={expires} choices={EXPIRES} onChange={setExpires} />
      </div>
      {make.error === null ? null : (
        <p className="bad" role="alert">
          {make.error.message}
        </p>
      )}
      <Answers>
        <button type="button" className="control" onClick={onClose}>
          Cancel
        </button>
        <button type="submit" className="control primary" disabled={make.isPending || mistake !== undefined}>
          {kind === "join" ? "Make the join token" : "Make the token"}
        </button>
      </Answers>
    </form>
  );
}

function Made({ made, onClose }: { made: MadeToken; onClose: () => void }) {
  const [place, setPlace] = useState<Place>("host");
  const [typed, setTyped] = useState<string>(location.origin);
  const url = address(typed);
  return (
    <Dialog label={made.kind === "join" ? "Add a controller" : "New token"} onClose={onClose} light={false}>
      <p className="dim">The token is shown now and never again.</p>
      <Command text={made.token} />
      {made.kind === "join" ? (
        <>
          <Choose
            label="Where"
            value={place}
            choices={PLACES}
            onChange={(value) => setPlace(value as Place)}
          />
          <Field
            label="Address of this dashboard, as the node sees it"
            value={typed}
            onChange={setTyped}
            mistake={url === undefined ? "An address such as https://sonde.example:8080." : undefined}
            help={
              isLoopback(typed) ? (
                <span className="warn">
                  This address means the node itself there. Start the dashboard with --listen ADDR:PORT, and
                  name that address here.
                </span>
              ) : (
                "The controller dials it; nothing dials the node."
              )
            }
          />
          {url === undefined ? null : <Command text={commands(place, url, made)} />}
          <p className="faint">
            {place === "host"
              ? "As root, where the program is installed. The node appears here with its first report."
              : place === "docker"
                ? "The image is made by deploy/image; name yours in place of “sonde”."
                : "In a clone of the repository, after naming your image in deploy/kubernetes/kustomization.yaml."}
          </p>
        </>
      ) : (
        <Command
          text={
            made.kind === "ingest"
              ? `export OTEL_EXPORTER_OTLP_ENDPOINT=${location.origin}\nexport OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer ${made.token}"`
              : `curl -H "authorization: Bearer ${made.token}" ${location.origin}/api/v1/services`
          }
        />
      )}
      <Answers>
        <button type="button" className="control primary" onClick={onClose} data-first>
          {made.expires === undefined ? "Done" : `Done, it is good for ${left(made.expires)}`}
        </button>
      </Answers>
    </Dialog>
  );
}

function left(expires: string): string {
  const hours = Math.round((Date.parse(expires) - Date.now()) / 3_600_000);
  return hours < 48 ? plural(Math.max(1, hours), "hour") : plural(Math.round(hours / 24), "day");
}
