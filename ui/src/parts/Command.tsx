// A command to copy.
import { useRef, useState } from "react";

export function Command({ text }: { text: string }) {
  const code = useRef<HTMLElement>(null);
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    setCopied(await put(text, code.current));
    setTimeout(() => setCopied(false), 2000);
  };
  return (
    <div className="command">
      <code ref={code}>{text}</code>
      <button type="button" onClick={() => void copy()}>
        {copied ? "copied" : "copy"}
      </button>
    </div>
  );
}

/** Copies, or at least selects, where the browser forbids the clipboard (a page without TLS). */
export async function put(text: string, element: HTMLElement | null): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    if (element !== null) getSelection()?.selectAllChildren(element);
    return false;
  }
}
