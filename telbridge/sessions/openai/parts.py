"""Tables inside the settings of an OpenAI Realtime session: tools, prompt, tracing, truncation.

Field names are the vendor's (`RealtimeSessionCreateRequest` of the `openai` SDK 3.52.0; guides realtime and
tools-connectors-mcp on developers.openai.com). What is not set is not sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from telbridge.dialplan.vocabulary import Json, Tool
from telbridge.sessions.credentials import SecretRef
from telbridge.sessions.provider import VendorPart


class TypedPart(VendorPart):
    """A table that its `type` tells apart. Named or not, the type counts as set: it is always sent."""

    @model_validator(mode="before")
    @classmethod
    def _name_the_type(cls, value: Any) -> Any:
        if isinstance(value, dict) and "type" not in value:
            return {"type": cls.model_fields["type"].default, **value}
        return value


class FunctionTool(TypedPart):
    """A function that the agent may call; its result goes back by the call."""

    type: Annotated[Literal["function"], Field(description='"function"')] = "function"
    name: Annotated[str, Field(min_length=1, max_length=64, description="name of the function")]
    description: Annotated[str, Field(description="when to call it, and what it does")] = ""
    parameters: Annotated[Json, Field(description="JSON Schema of the arguments, an object")] = Field(
        default_factory=lambda: {"type": "object", "properties": {}}
    )

    @classmethod
    def of(cls, tool: Tool) -> FunctionTool:
        return cls(name=tool.name, description=tool.description, parameters=tool.parameters)


class ToolFilter(VendorPart):
    """Which tools of an MCP server are meant."""

    read_only: Annotated[
        bool | None, Field(description="true: only tools that their server calls read-only")
    ] = None
    tool_names: Annotated[tuple[str, ...] | None, Field(description="names of the tools")] = None


class ApprovalFilter(VendorPart):
    """Which tools of an MCP server want somebody's approval."""

    always: Annotated[ToolFilter | None, Field(description="tools that always want it")] = None
    never: Annotated[ToolFilter | None, Field(description="tools that never want it")] = None


Connector: TypeAlias = Literal[
    "connector_dropbox",
    "connector_gmail",
    "connector_googlecalendar",
    "connector_googledrive",
    "connector_microsoftteams",
    "connector_outlookcalendar",
    "connector_outlookemail",
    "connector_sharepoint",
]


class McpTool(TypedPart):
    """Tools of a remote MCP server; OpenAI calls them itself."""

    type: Annotated[Literal["mcp"], Field(description='"mcp"')] = "mcp"
    server_label: Annotated[str, Field(min_length=1, description="name of the server in tool calls")]
    server_url: Annotated[str | None, Field(description="address of the server")] = None
    connector_id: Annotated[
        Connector | None,
        Field(description="a service of OpenAI's; deprecated for models released after 2026-09-01"),
    ] = None
    tunnel_id: Annotated[str | None, Field(description="id of a secure MCP tunnel")] = None
    server_description: Annotated[str | None, Field(description="what the server is good for")] = None
    authorization: Annotated[
        SecretRef | None, Field(description='OAuth access token, by reference: { env = "NAME" }')
    ] = None
    headers: Annotated[
        dict[str, str | SecretRef] | None,
        Field(description='HTTP headers for the server; a secret one as { env = "NAME" }'),
    ] = None
    allowed_tools: Annotated[
        tuple[str, ...] | ToolFilter | None, Field(description="names of the tools to use, or a filter")
    ] = None
    require_approval: Annotated[
        Literal["always", "never"] | ApprovalFilter | None,
        Field(description='"never", for nobody on a telephone can approve'),
    ] = None
    allowed_callers: Annotated[
        tuple[Literal["direct", "programmatic"], ...] | None, Field(description="who may call the tools")
    ] = None
    defer_loading: Annotated[bool | None, Field(description="true: found by tool search when needed")] = None

    def secrets(self) -> Iterator[tuple[str, SecretRef]]:
        """Each reference with its key."""
        if self.authorization is not None:
            yield "authorization", self.authorization
        for name, value in (self.headers or {}).items():
            if isinstance(value, SecretRef):
                yield f"headers.{name}", value

    @model_validator(mode="after")
    def _one_way_to_the_server(self) -> McpTool:
        ways = (self.server_url, self.connector_id, self.tunnel_id)
        if sum(way is not None for way in ways) != 1:
            raise ValueError(
                "needs exactly one way to the server: write server_url, connector_id or tunnel_id"
            )
        return self


SessionTool: TypeAlias = Annotated[FunctionTool | McpTool, Field(discriminator="type")]


class ChosenFunction(TypedPart):
    """The one function that must be called."""

    type: Annotated[Literal["function"], Field(description='"function"')] = "function"
    name: Annotated[str, Field(min_length=1, description="name of the function")]


class ChosenMcp(TypedPart):
    """The one MCP server, or tool of it, that must be called."""

    type: Annotated[Literal["mcp"], Field(description='"mcp"')] = "mcp"
    server_label: Annotated[str, Field(min_length=1, description="label of the server")]
    name: Annotated[str | None, Field(description="name of the tool; none: any of them")] = None


ToolChoice: TypeAlias = (
    Literal["auto", "none", "required"] | Annotated[ChosenFunction | ChosenMcp, Field(discriminator="type")]
)


class StoredPrompt(VendorPart):
    """A prompt kept at the vendor; fields of the session win over it."""

    id: Annotated[str, Field(min_length=1, description="id of the prompt")]
    version: Annotated[str | None, Field(description="its version; none: the current one")] = None
    variables: Annotated[
        dict[str, str | Json] | None,
        Field(description="values of its variables: text, or a table of type input_text, _image or _file"),
    ] = None


class Tracing(VendorPart):
    """What the session is called in the vendor's traces dashboard."""

    workflow_name: Annotated[str | None, Field(description="name of the workflow")] = None
    group_id: Annotated[str | None, Field(description="id that groups traces")] = None
    metadata: Annotated[Json | None, Field(description="labels to filter by")] = None


class TokenLimits(VendorPart):
    """Of the conversation, before it is cut."""

    post_instructions: Annotated[
        int | None, Field(ge=1, description="most tokens after instructions and tools")
    ] = None


class RetentionRatio(TypedPart):
    """Cut more than is needed, so that the prompt cache is lost less often."""

    type: Annotated[Literal["retention_ratio"], Field(description='"retention_ratio"')] = "retention_ratio"
    retention_ratio: Annotated[float, Field(ge=0, le=1, description="part that is kept, 0 to 1")]
    token_limits: Annotated[TokenLimits | None, Field(description="limits of your own")] = None
